/*
adapters.h: low-rank adapters as folders of PEFT: adapter_config.json and adapter_model.safetensors.

Defines
  lora_targets_named           targets by PEFT's names: all, attention, mlp, or a list
  param_table_adapter          the adapter's parameters alone, of a config with one
  adapter_read_config, adapter_write_config, adapter_check, adapter_load
  adapter_base                 what identifies the files of a base
  AdapterFile, adapter_add     a folder's numbers, and what they add to rows of the base's matrices (merging)

Names, shapes and fields are those of LoraConfig and get_peft_model_state_dict (PEFT 0.21): A (rank, in), B (out, rank),
behind "base_model.model." and the module's name. A target is in all layers or in none. What would compute something
else than this program does (DoRA, modules_to_save, biases, ranks of their own, ...) is refused by its name. For which
base it was made says run.json of the folders that this program wrote: path and hash; of others only shapes tell.
*/
#ifndef LLMC_ADAPTERS_H
#define LLMC_ADAPTERS_H

#include "../base/hash.h"
#include "huggingface.h"
#include "verify.h"

#define ADAPTER_WEIGHTS "adapter_model.safetensors"

// ---------------------------------------------------------------- targets

// The parameters of a target: A, B and the matrix that it stands beside, and where in its rows.
typedef struct {
    int a, b, matrix, row, rows;
} LoraParts;

static inline LoraParts lora_parts(const Config *c, int target) {
    LoraParts p = {0, 0, 0, 0, 0};
#define X(id, matrix_, row_, rows_)                                                                                    \
    if (target == LORA_##id)                                                                                           \
        p.a = PARAM_lora_##id##_a, p.b = PARAM_lora_##id##_b, p.matrix = PARAM_##matrix_, p.row = row_, p.rows = rows_;
    LORA_TARGETS(X)
#undef X
    return p;
}

// A target's module as PEFT names it, with its parent: "self_attn.q_proj"; empty: the family has none.
static inline Path lora_module(const Config *c, int target) {
    const NameRow *row = names_of(family_of(c->family)->naming, lora_parts(c, target).a);
    const char *start = row ? strstr(row->names, "%d.") : NULL;
    return start ? path_of("%.*s", (int)(strstr(start, ".lora_") - start - 3), start + 3) : path_of("%s", "");
}

// The targets that a name of PEFT's target_modules means: all whose module ends in it, behind a dot.
static inline unsigned lora_targets_of(const Config *c, const char *name) {
    unsigned found = 0;
    for (int t = 0; t < LORA_KINDS; t++) {
        Path module = lora_module(c, t);
        const char *last = strrchr(module.text, '.');
        if (last && (strcmp(module.text, name) == 0 || strcmp(last + 1, name) == 0)) found |= 1u << t;
    }
    return found;
}

// All names that a family has, for messages.
static inline Path lora_names(const Config *c) {
    Path list = path_of("%s", "");
    for (int t = 0; t < LORA_KINDS; t++) {
        Path module = lora_module(c, t);
        if (module.text[0]) list = path_of("%.1000s%s%.100s", list.text, list.text[0] ? ", " : "", module.text);
    }
    return list;
}

// "all", "attention", "mlp", or names with commas.
static inline bool lora_targets_named(unsigned *targets, const Config *c, const char *list, Error *err) {
    bool all = strcmp(list, "all") == 0, attention = strcmp(list, "attention") == 0, mlp = strcmp(list, "mlp") == 0;
    *targets = 0;
    for (int t = 0; t < LORA_KINDS && (all || attention || mlp); t++) {
        int matrix = lora_parts(c, t).matrix;
        bool inner = matrix == PARAM_qkv_w || matrix == PARAM_proj_w;
        if (lora_module(c, t).text[0] && (all || inner == attention)) *targets |= 1u << t;
    }
    if (*targets) return true;
    for (const char *part = list; *part; part += strcspn(part, ","), part += *part == ',') {
        Path name = path_of("%.*s", (int)strcspn(part, ","), part);
        unsigned found = lora_targets_of(c, name.text);
        if (!found)
            return error_set(err, "%s has no module \"%.200s\" that an adapter can stand beside; it has %.600s",
                             family_name(c->family), name.text, lora_names(c).text);
        *targets |= found;
    }
    return *targets ? true : error_set(err, "no module is named that an adapter is to stand beside");
}

// The names that mean these targets and no others, as members of a JSON array.
static inline void lora_write_targets(Str *s, const Config *c) {
    StrList names;
    memset(&names, 0, sizeof names);
    for (int t = 0; t < LORA_KINDS; t++) {
        if (!lora_has(c, t)) continue;
        Path module = lora_module(c, t);
        const char *name = strrchr(module.text, '.') + 1;
        if (lora_targets_of(c, name) & ~c->lora.targets) name = module.text;
        bool known = false;
        for (int i = 0; i < names.count; i++) known |= strcmp(names.items[i], name) == 0;
        if (!known) str_list_add(&names, name);
    }
    for (int i = 0; i < names.count; i++) str_printf(s, "%s\"%s\"", i ? ", " : "", names.items[i]);
    str_list_free(&names);
}

static inline bool param_is_adapter(const Param *p) { return p->group == GROUP_LORA_A || p->group == GROUP_LORA_B; }

// The adapter's parameters, in the order and at the offsets of the whole table.
static inline ParamTable param_table_adapter(const Config *c) {
    ParamTable t = param_table(c);
    int count = t.count;
    for (int i = 0; i < PARAM_KINDS * (t.layers + 1); i++) t.index[i] = -1;
    t.count = 0, t.parameters = 0;
    for (int i = 0; i < count; i++) {
        if (!param_is_adapter(&t.items[i])) continue;
        t.items[t.count] = t.items[i];
        t.parameters += t.items[i].count;
        t.index[t.items[i].kind * (t.layers + 1) + t.items[i].layer + 1] = t.count++;
    }
    return t;
}

// ---------------------------------------------------------------- adapter_config.json

// Members that change what is computed and must be off, empty or of this value.
static inline bool adapter_read_others(const Json *root, Error *err) {
    static const char off[] = "use_dora|use_qalora|lora_bias|modules_to_save|rank_pattern|alpha_pattern|"
                              "layers_to_transform|layers_pattern|exclude_modules|target_parameters|"
                              "trainable_token_indices|layer_replication|megatron_config|loftq_config|eva_config|"
                              "corda_config|lora_ga_config|velora_config|monteclora_config|kasa_config|arrow_config|"
                              "alora_invocation_tokens|use_bdlora|runtime_config_ephemeral";
    for (const Json *j = root->child; j; j = j->next)
        if (key_among(off, j->key) && j->type != JSON_NULL && !json_is_neutral(j, NEUTRAL_OFF))
            return folder_refuse(err, j->key, json_shown(j).text, "plain LoRA, without it");
    const char *type = "missing", *bias = "none", *task = "CAUSAL_LM";
    if (!json_want_string(&type, root, "peft_type", err) || !json_want_string(&bias, root, "bias", err)) return false;
    if (json_present(root, "task_type") && !json_want_string(&task, root, "task_type", err)) return false;
    if (strcmp(type, "LORA") != 0) return folder_refuse(err, "peft_type", type, "LORA");
    if (strcmp(bias, "none") != 0) return folder_refuse(err, "bias", bias, "none");
    if (strcmp(task, "CAUSAL_LM") != 0) return folder_refuse(err, "task_type", task, "CAUSAL_LM");
    // These begin from a base that they have changed.
    const Json *init = json_present(root, "init_lora_weights");
    if (init && init->type == JSON_STRING && !key_among("gaussian|orthogonal|eva", init->text))
        return folder_refuse(err, "init_lora_weights", init->text, "adapters of the base as it is");
    return true;
}

// target_modules: a name, or an array of names.
static inline bool adapter_read_targets(unsigned *targets, const Config *c, const Json *root, Error *err) {
    const Json *modules = json_present(root, "target_modules");
    bool list = json_is(modules, JSON_ARRAY);
    *targets = 0;
    if (!list && !json_is(modules, JSON_STRING))
        return json_unwanted(err, modules, "target_modules", "an array of names");
    for (const Json *j = list ? modules->child : modules; j; j = list ? j->next : NULL) {
        unsigned found = j->type == JSON_STRING ? lora_targets_of(c, j->text) : 0;
        if (!found)
            return folder_refuse(err, "target_modules", json_shown(j).text,
                                 path_of("those of %s: %.600s", family_name(c->family), lora_names(c).text).text);
        *targets |= found;
    }
    return *targets ? true : error_set(err, "\"target_modules\" is empty");
}

// Reads c->lora; the rest of c is that of the base.
static inline bool adapter_parse_config(Config *c, const Json *root, Error *err) {
    int64_t rank = 8; // LoraConfig's defaults
    double alpha = 8, dropout = 0;
    bool rs = false, turned = false;
    if (root->type != JSON_OBJECT) return error_set(err, "expected an object, found %s", json_shown(root).text);
    if (!json_unique(root, err) || !adapter_read_others(root, err)) return false;
    memset(&c->lora, 0, sizeof c->lora);
    if (!json_want_integer(&rank, root, "r", 1, 1 << 16, err) || !json_want_number(&alpha, root, "lora_alpha", err) ||
        !json_want_number(&dropout, root, "lora_dropout", err) || !json_want_bool(&rs, root, "use_rslora", err) ||
        !json_want_bool(&turned, root, "fan_in_fan_out", err) || !adapter_read_targets(&c->lora.targets, c, root, err))
        return false;
    if (!(fabs(alpha) < 1e9)) return json_unwanted(err, json_get(root, "lora_alpha"), "lora_alpha", "a finite number");
    if (!(dropout >= 0 && dropout < 1))
        return json_unwanted(err, json_get(root, "lora_dropout"), "lora_dropout", "0 or more and below 1");
    c->lora.rank = (int)rank, c->lora.alpha = alpha, c->lora.rs = rs, c->lora.dropout = dropout;
    return true;
}

static inline bool adapter_read_config(Config *c, const char *folder, Error *err) {
    Path path = path_of("%s/adapter_config.json", folder);
    JsonDoc doc;
    Error why;
    const Json *root = json_load(&doc, path.text, err);
    if (!root) return false;
    bool ok = adapter_parse_config(c, root, &why);
    json_free(&doc);
    return ok ? true : error_set(err, "%s: %.900s", path.text, why.text);
}

// base: the path under which its folder was read.
static inline bool adapter_write_config(const char *folder, const Config *c, const char *base, FileSums *sums,
                                        Error *err) {
    Str s;
    memset(&s, 0, sizeof s);
    str_puts(&s, "{\n  \"alpha_pattern\": {},\n  \"auto_mapping\": null,\n  \"base_model_name_or_path\": ");
    json_escape(&s, base, strlen(base));
    const NameRow *row = names_of(family_of(c->family)->naming, PARAM_qkv_w);
    str_printf(&s,
               ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": %s,\n  \"inference_mode\": true,\n"
               "  \"init_lora_weights\": true,\n  \"lora_alpha\": ",
               *row->names == '^' ? "true" : "false");
    json_add_number(&s, c->lora.alpha);
    str_puts(&s, ",\n  \"lora_dropout\": ");
    json_add_number(&s, c->lora.dropout);
    str_printf(&s,
               ",\n  \"modules_to_save\": null,\n  \"peft_type\": \"LORA\",\n  \"r\": %d,\n  \"rank_pattern\": {},\n"
               "  \"revision\": null,\n  \"target_modules\": [",
               c->lora.rank);
    lora_write_targets(&s, c);
    str_printf(&s, "],\n  \"task_type\": \"CAUSAL_LM\",\n  \"use_dora\": false,\n  \"use_rslora\": %s\n}\n",
               c->lora.rs ? "true" : "false");
    Path path = path_of("%s/adapter_config.json", folder);
    bool ok = file_write_summed(sums, path.text, s.data, s.size, err);
    free(s.data);
    return ok;
}

// The name of the first option in which two adapters differ; NULL: none.
static inline const char *adapter_difference(const Lora *a, const Lora *b) {
    if (a->rank != b->rank) return "--lora_rank";
    if (a->targets != b->targets) return "--lora_targets";
    if (a->rs != b->rs) return "--lora_rs";
    if (fabs(a->alpha - b->alpha) > 1e-9 * fabs(a->alpha)) return "--lora_alpha";
    return fabs(a->dropout - b->dropout) > 1e-9 ? "--lora_dropout" : NULL;
}

// ---------------------------------------------------------------- the base

// A hash of a model folder's weights: of the names and XXH64 of its files, which its record lists or which are read.
static inline bool adapter_base(uint64_t *hash, const char *folder, Error *err) {
    StrList names;
    RunRecord r;
    FileKind kind;
    Xxh64 state;
    Str text;
    Path run = path_of("%s/run.json", folder);
    memset(&names, 0, sizeof names);
    memset(&text, 0, sizeof text);
    memset(&r, 0, sizeof r);
    xxh64_init(&state, 0);
    bool ok = folder_list(&names, folder, err) && path_look(run.text, &kind, err);
    bool ours = ok && kind == FILE_REGULAR;
    if (ours)
        ours = ok = file_read(&text, run.text, RUN_RECORD_MOST, err) &&
                    run_record_parse(&r, text.data, text.size, run.text, err);
    free(text.data);
    for (int i = 0; ok && i < names.count; i++) {
        const char *name = names.items[i];
        if (strncmp(name, "model", 5) != 0 || !str_ends_with(name, ".safetensors")) continue;
        const Json *listed = ours ? json_get(json_get(json_get(r.root, "files"), name), "xxh64") : NULL;
        uint64_t sum = strtoull(json_string(listed, "0"), NULL, 16);
        int64_t bytes;
        if (!listed) ok = file_sum(&sum, &bytes, path_of("%s/%s", folder, name).text, -1, err);
        char line[64];
        int n = snprintf(line, sizeof line, "%016" PRIx64 "\n", sum);
        xxh64_update(&state, line, (size_t)n);
    }
    if (ours) run_record_close(&r);
    str_list_free(&names);
    *hash = xxh64_value(&state);
    return ok;
}

// A line of run.json: on which base an adapter stands, and as what codes its matrices were kept (Base).
static inline void adapter_base_json(Str *s, const char *path, uint64_t hash, int kept) {
    str_puts(s, "  \"base\": {\"path\": ");
    json_escape(s, path, strlen(path));
    str_printf(s, ", \"xxh64\": \"%016" PRIx64 "\"", hash);
    if (kept != BASE_FULL) str_printf(s, ", \"kept_as\": \"%s\"", base_name(kept));
    str_puts(s, "},\n");
}

// Was the adapter of a folder made on this base, as far as it says?
static inline bool adapter_check_base(const char *adapter, const char *base, Error *err) {
    Path run = path_of("%s/run.json", adapter);
    FileKind kind;
    Str text;
    RunRecord r;
    uint64_t hash;
    memset(&text, 0, sizeof text);
    if (!path_look(run.text, &kind, err)) return false;
    if (kind == FILE_ABSENT) return true;
    bool ok =
        file_read(&text, run.text, RUN_RECORD_MOST, err) && run_record_parse(&r, text.data, text.size, run.text, err);
    free(text.data);
    if (!ok) return false;
    const Json *recorded = json_get(r.root, "base");
    Path path = path_of("%.2000s", json_string(json_get(recorded, "path"), ""));
    const char *sum = json_string(json_get(recorded, "xxh64"), "");
    bool told = *sum != 0;
    uint64_t expected = strtoull(sum, NULL, 16);
    run_record_close(&r);
    text_make_printable(path.text);
    if (!told) return true;
    if (!adapter_base(&hash, base, err)) return false;
    return hash == expected ? true
                            : error_set(err,
                                        "the adapter %.300s was trained on other weights than those of %.300s (hash "
                                        "%016" PRIx64 ", expected %016" PRIx64 "); its base was %.300s",
                                        adapter, base, hash, expected, path.text);
}

// ---------------------------------------------------------------- numbers

// Is the adapter of a folder that of this config, whose lora adapter_read_config gave? No memory is taken for it.
static inline bool adapter_check(const Config *c, const char *folder, Error *err) {
    SafeTensors st;
    Path path = path_of("%s/" ADAPTER_WEIGHTS, folder);
    if (!safetensors_open(&st, path.text, err)) return false;
    ParamTable t = param_table_adapter(c);
    bool ok = disk_check(&st, &t, c, "", path.text, err);
    param_table_free(&t);
    safetensors_close(&st);
    return ok;
}

static inline bool adapter_load(Model *m, const Config *c, const char *folder, Error *err) {
    SafeTensors st;
    Path path = path_of("%s/" ADAPTER_WEIGHTS, folder);
    if (!safetensors_open(&st, path.text, err)) return false;
    ParamTable t = param_table_adapter(c);
    bool ok = disk_load(m, MODEL_WEIGHT, &st, &t, c, "", path.text, err);
    param_table_free(&t);
    safetensors_close(&st);
    return ok;
}

// Whether a folder is one of an adapter.
static inline bool folder_is_adapter(bool *adapter, const char *folder, Error *err) {
    FileKind kind;
    if (!path_look(path_of("%s/adapter_config.json", folder).text, &kind, err)) return false;
    *adapter = kind != FILE_ABSENT;
    return true;
}

// ---------------------------------------------------------------- merging

// A folder's adapter, open for reading.
typedef struct {
    Config config; // of the base, with the adapter
    ParamTable table;
    SafeTensors tensors;
} AdapterFile;

static inline void adapter_close(AdapterFile *a) {
    param_table_free(&a->table);
    safetensors_close(&a->tensors);
}

// Opens and checks all of it. base: the config and the folder that it is to stand on. On false nothing is to be closed.
static inline bool adapter_open(AdapterFile *a, const Config *base, const char *base_folder, const char *folder,
                                Error *err) {
    Path path = path_of("%s/" ADAPTER_WEIGHTS, folder);
    a->config = *base;
    if (!adapter_read_config(&a->config, folder, err) || !adapter_check_base(folder, base_folder, err) ||
        !adapter_check(&a->config, folder, err) || !safetensors_open(&a->tensors, path.text, err))
        return false;
    a->table = param_table_adapter(&a->config);
    return true;
}

// values (p->count) of one of its parameters.
static inline bool adapter_values(float *values, const AdapterFile *a, int kind, int layer, Error *err) {
    const Param *p = param_find(&a->table, kind, layer);
    DiskPart part = disk_part(folder_names(p, &a->config), p, &a->config, 0);
    return safetensors_to_f32(values, disk_find(&a->tensors, "", part.name), 0, (int64_t)p->count, err);
}

// w (rows, p->cols) += scale B A, as far as the adapter stands beside rows row .. row + rows - 1 of the matrix p. Sums
// are made in double and rounded once.
static inline bool adapter_add(float *w, const AdapterFile *a, const Param *p, int row, int rows, Error *err) {
    const Config *c = &a->config;
    bool ok = true;
    for (int t = 0; ok && t < LORA_KINDS; t++) {
        LoraParts parts = lora_parts(c, t);
        int first = row > parts.row ? row : parts.row, R = c->lora.rank,
            end = row + rows < parts.row + parts.rows ? row + rows : parts.row + parts.rows;
        if (!lora_has(c, t) || parts.matrix != p->kind || first >= end) continue;
        size_t C = (size_t)p->cols;
        float *A = (float *)mem_alloc(sizeof(float) * (size_t)R * C),
              *B = (float *)mem_alloc(sizeof(float) * (size_t)parts.rows * (size_t)R);
        double *sum = (double *)mem_alloc(sizeof(double) * C), scale = lora_scale(c);
        ok = adapter_values(A, a, parts.a, p->layer, err) && adapter_values(B, a, parts.b, p->layer, err);
        for (int o = first; ok && o < end; o++) {
            float *to = w + (size_t)(o - row) * C;
            for (size_t k = 0; k < C; k++) sum[k] = (double)to[k];
            for (int r = 0; r < R; r++) {
                double b = scale * (double)B[(size_t)(o - parts.row) * (size_t)R + (size_t)r];
                for (size_t k = 0; k < C; k++) sum[k] += b * (double)A[(size_t)r * C + k];
            }
            for (size_t k = 0; k < C; k++) to[k] = (float)sum[k];
        }
        free(A), free(B), free(sum);
    }
    return ok;
}

#endif
