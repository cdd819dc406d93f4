# shellcheck shell=bash
# The mutants of dev/test/mutants.sh: mutant NAME FILE FROM TO TEST. Every room has some; a new rule brings one.

# ---- base
mutant "XXH64 rotates by 30" llmc/base/hash.h 'word * XXH64_PRIME_2, 31)' 'word * XXH64_PRIME_2, 30)' "gpt files"
mutant "SHA-256 by instructions forgets the sum of a block" llmc/base/hash.h 'cdgh = _mm_add_epi32(cdgh, cdgh_before);' '' "gpt files"
mutant "Philox has 9 rounds" llmc/base/rng.h 'round < 10' 'round < 9' "gpt base"
mutant "bf16 is cut off, not rounded" llmc/base/half.h 'bits + 0x7fff + (bits >> 16 & 1)' 'bits' "gpt gguf files"
mutant "keys may stand twice" llmc/base/json.h 'return i == n;' 'return true;' "gpt base"
mutant "JSON nests one level too deep" llmc/base/json.h '++r->depth > JSON_MAX_DEPTH' 'r->depth++ > JSON_MAX_DEPTH' "gpt files"

# ---- text
mutant "JSON strings end a byte early" llmc/text/json_line.h 'return p + __builtin_ctzll(special) / 8;' 'return p;' "gpt documents"
mutant "UTF-8 is not looked at behind seven bytes" llmc/text/text.h 'p += __builtin_ctzll(eight) / 8;' 'p += 8;' "gpt documents"
mutant "merges of equal count in another order" llmc/text/tokenizer.h 'a->left != b->left ? a->left < b->left' 'a->left != b->left ? a->left > b->left' "gpt tokenizer"
mutant "words of the vocabulary are always merged" llmc/text/tokenizer.h 'if (tok->ignore_merges) {' 'if (0) {' "gpt tokenizer"
mutant "GPT-2's texts are cut where its pattern looks ahead" llmc/text/text.h "pattern == TEXT_GPT2 ? c == '\\n'" "0 ? c == '\\n'" "gpt tokenizer"
mutant "an added token of the vocabulary stands for its name" llmc/text/tokenizer.h 'if (tokenizer_name_slot(&r->vocab, name, size)->id >= 0) {' 'if (tok->kinds[id] == TOKEN_NORMAL) {' "gpt tokenizer"
mutant "generation_config.json's ends are not looked at" llmc/text/tokenizer_folder.h 'bool own = ends.count > 0;' 'bool own = false;' "gpt tokenizer"
mutant "a cut document begins again" llmc/text/tokenize.h ', piece.first = false;' ';' "gpt data"
mutant "targets begin with their inputs" llmc/text/data.h 'memcpy(inputs + 1, targets,' 'memcpy(inputs, targets,' "gpt data"
mutant "the order of data forgets the epoch" llmc/text/data.h 'permutation_mix(~epoch * 0xd1342543de82ef95ull)' 'permutation_mix(~0 * 0xd1342543de82ef95ull)' "gpt data"
mutant "all documents are for training" llmc/text/tokenize.h 'return doc_below(hash, val_fraction) ? SIDE_VAL : SIDE_TRAIN' 'return SIDE_TRAIN' "gpt data"
mutant "shards of two runs are one set" llmc/text/data.h 'a->header.set != b->header.set' '0 && a->header.set != b->header.set' "gpt data"
mutant "a set may lack its last shards" llmc/text/data.h 'expected < (int64_t)h->set_count' '0 && expected < (int64_t)h->set_count' "gpt data"
mutant "surplus shards of the set before stay" llmc/text/shard_set.h 'if (old.number < counts[old.side] &&' 'if (old.number < 1000 &&' "gpt data"
mutant "UTF-16 without a mark is text" llmc/text/reader.h '(many || invalid)) what = text_wide' '0) what = text_wide' "gpt data"
mutant "packed files are text" llmc/text/reader.h 'if (!f->foreign || verbatim) return true;' 'if (1) return true;' "gpt data"
mutant "the output may be the input" llmc/run/outputs.h 'path_id(paths.items[i], &other, NULL) && file_id_same(id, other)' '0 && path_id(paths.items[i], &other, NULL)' "cli_test"
mutant "damaged shards verify" llmc/text/data.h 'return sum == s->header.checksum' 'return 1 || sum == s->header.checksum' "gpt data"

mutant "an IBAN's check digits may be any" llmc/corpus/check_digits.h 'return rest % 97 == 1;' 'return true;' "gpt personal"
mutant "a placeholder names the number behind it" llmc/corpus/personal.h 'personal_window_forget(w, tail, old);' ';' "gpt personal"
mutant "documentation has public addresses" llmc/corpus/personal.h 'a[1] == 0 && a[2] == 113' 'a[1] == 0 && a[2] == 114' "gpt personal"
mutant "capital umlauts are other letters" llmc/corpus/language.h 'p[-1] == 0xc3 && *p >= 0x80' 'p[-1] == 0xc3 && *p >= 0x90' "gpt language"
mutant "the least score is not looked at" llmc/corpus/corpus.h 'score < c->job->german' 'score < 0' "gpt language"
mutant "numbers lose their dots" llmc/corpus/words.h 'if (m >= 2) return m;
    if (end - n <= p) return 0;' 'if (m >= 1) return m;
    if (end - n <= p) return 0;' "gpt clean"

# ---- ranks
mutant "the watchdog lets the job hang" llmc/ranks/watchdog.h '    job_abort();' '    return;' "gpt watchdog"
mutant "a rank with another key is let in" llmc/ranks/bootstrap.h '!bootstrap_same(g->hello.key, b->asked)' '0' "bootstrap_test"
mutant "strangers keep rank 0 for ever" llmc/ranks/bootstrap.h 'missing > 0 && !bootstrap_over(b, b->until)' 'missing > 0' "bootstrap_test"
mutant "ranks outlive their launcher" llmc/ranks/launcher.h 'now >= 0 && now != l->parent' 'now < -1' "gpt process"
mutant "a text without an end is read on" llmc/ranks/dist.h 'text[n - 1] = 0;' '' "gpt process"
mutant "a terminal that is closed ends training" llmc/run/stop.h 'sigaddset(set, SIGHUP)' '(void)0' "signals_test"
mutant "what cannot be read is trained on" llmc/run/stop.h 'if (!data) reason = STOP_DATA;' '' "signals_test"
mutant "each rank sums another rank's part" llmc/cpu/ranks.h 'rank < me ? rank : rank - 1' 'rank < me ? 0 : rank - 1' "ranks_test"

# ---- model
mutant "another head is the same model" llmc/model.h 'X(SWITCH, tied, "tied head", 0, 1, 0,' 'X(SWITCH, tied, "tied head", 0, 1, -1,' "gpt trainer"
mutant "other key/value heads are the same model" llmc/model.h 'X(SIZE, kv_heads, "key/value heads", 1, 1024, 0,' 'X(SIZE, kv_heads, "key/value heads", 1, 1024, -1,' "gpt trainer"
mutant "residual projections start as wide as others" llmc/model.h 'c->init_std / sqrt(2.0 * c->layers)' 'c->init_std' "gpt base model"
mutant "vectors decay" llmc/model.h 'rule.group[GROUP_VECTOR].weight_decay = 0;' '' "gpt model"
mutant "gradients that are alive at once share memory" llmc/model.h 'rows[i].written < rows[j].read ||' 'rows[i].written <= rows[j].read ||' "double model"
mutant "attention is scaled by the wrong root" llmc/model.h '1 / sqrt((double)c->head_size)' '1 / sqrt((double)c->channels)' "gpt model"
mutant "heads that do not divide" llmc/model.h 'if (c->heads % c->kv_heads)' 'if (0)' "gpt base model files"

# ---- cpu
mutant "RMSNorm backward without its projection" llmc/cpu/norm.h 'vload(dr + c) + rs * (g - a - xhat * q)' 'vload(dr + c) + rs * (g - a)' "gpt kernels"
mutant "a query sees the next key" llmc/cpu/attention.h 'last[j] >= key + i' 'last[j] + 1 >= key + i' "gpt kernels"
mutant "a query of tiles sees the next key" llmc/cpu/attention_tiles.h 'last[j] >= k0 + k + i' 'last[j] + 1 >= k0 + k + i' "gpt amx"
mutant "the diagonal of tiles is not masked backward" llmc/cpu/attention_tiles.h 'if (kb == qb) p =' 'if (0) p =' "gpt amx"
mutant "denormals count on emulated tiles" llmc/cpu/amx.h 'if (!(bits & 0x7F800000u)) bits &= 0x80000000u;' '' "gpt amx"
mutant "tiles of A lie as those of B" llmc/cpu/pack.h 'if (along != of_a) transpose_tile(r);' 'if (along) transpose_tile(r);' "gpt amx"
mutant "a run goes on in the precision that pays today" llmc/run/prepare.h 'if (goes_on) setup.precision' 'if (false) setup.precision' "precision_test"
mutant "rotation turns one half the wrong way" llmc/cpu/rope.h 'out[i + half] = b * c + a * s;' 'out[i + half] = b * c - a * s;' "gpt kernels"
mutant "GELU's slope forgets the cubic term" llmc/cpu/mlp.h '(1 + 3 * GELU_B * x * x)' '(1 + GELU_B * x * x)' "gpt kernels"
mutant "AdamW without bias correction" llmc/cpu/optimizer.h '1 - pow(r->beta2, step)' '1' "gpt model"
mutant "Muon takes queries for keys" llmc/model.h 'starts[n++] = c->heads * c->head_size;' ';' "gpt model"
mutant "Muon's updates have no scale" llmc/model.h 'return 0.2 * sqrt(rows > cols ? rows : cols);' 'return 1;' "gpt kernels"
mutant "Muon without Nesterov's momentum" llmc/cpu/muon.h 'x[i] = r->nesterov ? keep * mi + add * gi : mi;' 'x[i] = mi;' "gpt kernels"
mutant "another optimizer goes on" llmc/run/run_folder.h 'else if (!same_optimizer)' 'else if (0)' "ranks_test"
mutant "ignored targets count" llmc/cpu/loss.h 'if (target < 0) {' 'if (target < -1) {' "gpt kernels"
mutant "embedding gradients overwrite" llmc/cpu/embedding.h 'd[c] += dx[(size_t)n * C + c];' 'd[c] = dx[(size_t)n * C + c];' "gpt kernels"
mutant "kept gradients of the residual stream are not passed on" train_gpt_cpu.c 'if (to != from) memcpy' 'if (0) memcpy' "gpt model"
mutant "clipping never happens" train_gpt_cpu.c 'result.grad_norm > rule->grad_clip ?' 'result.grad_norm > 1e30 ?' "gpt model"
mutant "infinite losses reach the weights" train_gpt_cpu.c 'isfinite(result.loss) && isfinite(result.grad_norm) &&' 'isfinite(result.grad_norm) &&' "gpt trainer"

# ---- files
mutant "GGUF keeps the halves of llama's heads" llmc/files/gguf.h 'start + in_head % 2 * (t->head_size / 2) + in_head / 2' 'row + r' "gpt gguf"
mutant "heads of a llama's GGUF file stay in pairs" llmc/files/foreign.h 'int64_t half = t->head_size / 2;' 'int64_t half = 0;' "gpt convert"
mutant "tensors of a GGUF file may overlap" llmc/files/gguf_read.h 'if (t->offset < end)' 'if (0 && t->offset < end)' "gpt convert"
mutant "what is not finite in a GGUF file becomes a weight" llmc/files/foreign.h 'if (bad == count) return true;' 'if (bad <= count) return true;' "gpt convert"
mutant "unknown keys of a GGUF file are passed over" llmc/files/gguf_read.h '!gguf_key_is_field(name.text, c) && !gguf_key_allowed' '0 && !gguf_key_allowed' "gpt convert"
mutant "rows that pad llm.c's embedding are not skipped" llmc/files/llmc_read.h 'order[k] == PARAM_wte ? (uint64_t)padded' '0 ? (uint64_t)padded' "gpt convert"
mutant "pages of a file stay when they were read" llmc/base/file.h 'if (f->mapping && begin < end) madvise' 'if (0) madvise' "gpt convert"
mutant "a new token has the row of its first piece" llmc/run/init_embeddings.h 'if (n == 1) return embedding_row' 'if (n >= 1) return embedding_row' "gpt embeddings"
mutant "values are cut where keys are" llmc/files/naming.h 'j == 0 ? 0 : NQ + (j - 1) * NK' 'j == 0 ? 0 : NQ' "gpt model gguf"
mutant "checkpoints' checksums are not compared" llmc/files/verify.h 'return sum == f->sum ?' 'return true ?' "gpt trainer"
mutant "one checkpoint too many is pruned" llmc/files/checkpoint.h 'i < s.count - keep->newest; i++' 'i < s.count - keep->newest + 1; i++' "gpt trainer"
mutant "a head that is no copy is dropped" llmc/files/huggingface.h '*equal = *equal && x[i] == y[i]' '*equal = *equal' "gpt model"
mutant "null is the default" llmc/files/huggingface.h 'i < 2 && !follows; i++' 'i < 0; i++' "gpt base"
mutant "tensors may overlap" llmc/files/safetensors.h 'if (spans[i].begin < end)' 'if (0)' "gpt files"

# ---- run
mutant "bits a byte are counted over the inputs" llmc/run/evaluate.h 'tokens_text_bytes(e->tok, targets,' 'tokens_text_bytes(e->tok, inputs,' "gpt trainer data"
mutant "Adam counts skipped steps" llmc/run/trainer.h 't->state.step + 1 - t->state.skipped' 't->state.step + 1' "gpt trainer"
mutant "the moments of --lr=auto's test stay" llmc/run/lr_test.h 'model_set(t->model, checkpoint_arrays[1 + k].array, &piece, zeros);' '(void)piece;' "lr_test"
mutant "the weights of --lr=auto's test stay" llmc/run/lr_test.h 'trainer_load_start(t);' '' "lr_test"
mutant "the run goes on behind the data of --lr=auto's test" llmc/run/lr_test.h 't->state.position = 0;' '' "lr_test"
mutant "what --lr=auto chose is forgotten" llmc/run/run_folder.h 'state->lr = lr ? json_number(lr, -1) : 0;' 'state->lr = 0;' "gpt trainer"
mutant "warm-up starts at the peak" llmc/run/schedule.h 's->peak * (double)step / (double)s->warmup' 's->peak' "gpt base"
mutant "options above their bound pass" llmc/run/parse.h 'x >= p->least && x <= p->most' 'x >= p->least' "gpt base"
mutant "a whole number ends in a point" llmc/run/parse.h '|| (point && exponent == 0)' '' "gpt base"
mutant "a comment begins inside a word" llmc/run/parse.h "&& (end[-1] == ' ' || end[-1] == '\\t')" '' "gpt base"
mutant "metrics behind the checkpoint stay" llmc/run/history.h 'if (step > last_step) {' 'if (step > last_step + 1000000) {' "resume_test"
mutant "sampling ignores top_p" llmc/run/sample.h 'if (kept >= s->top_p * sum) break;' 'if (kept >= sum) break;' "gpt base"
mutant "spikes are judged by half the threshold" llmc/run/spikes.h 'b.loss.mean + rule->threshold *' 'b.loss.mean + 0.5 * rule->threshold *' "gpt trainer"
mutant "the stop file is nobody's business" llmc/run/stop.h 'reason = STOP_FILE;' 'reason = reason;' "survive_test"
mutant "generation goes on behind the end of text" llmc/run/generate.h 'if (token < 0 || tokenizer_stops(g->tok, token)) break;' 'if (token < 0) break;' "gpt trainer"
mutant "white space stays at the end of a context" llmc/run/tasks.h 'if (!task_is_space(c)) break;' 'break;' "tasks_test"
mutant "the begin token stands before continuations, too" llmc/run/tasks.h 'r->whole.count = 0;
        tokenizer_encode(r->rules->tok, &r->cache, continuation, n, &r->whole);' 'task_encode(r, &r->whole, continuation, n);' "tasks_test"
mutant "a last window sees one token" llmc/run/tasks.h 'done == 0 ? 1 : most - n + 1' '1' "tasks_test"
mutant "lengths are those of choice and delimiter" llmc/run/tasks.h 'r->set->requests[request].chars = task_chars(text->text, text->size);' 'r->set->requests[request].chars = task_chars(text->text, text->size) + 1;' "tasks_test"
mutant "of equal choices the last counts" llmc/run/scores.h 'q[i].loglikelihood / length > most' 'q[i].loglikelihood / length >= most' "tasks_test"
mutant "standard errors divide by n" llmc/run/scores.h '/ (double)(n - 1) / (double)n)' '/ (double)n / (double)n)' "tasks_test"
mutant "the first of several continuations answers for all" llmc/run/score.h 'int32_t token = request_ids(run->set, q)[t];' 'int32_t token = request_ids(run->set, run->order[s->first])[t];' "tasks_test"
mutant "short batches take another way of adding up" llmc/run/score.h 'T = (int)int64_max(T, int64_min(SCORE_ROWS, scorer->seq_len));' 'T = (int)int64_max(T, 1);' "tasks_test"

# ---- cuda, emulated
mutant "CUDA: a barrier less in the norm" llmc/cuda/norm.h 'make_float2(s1, s2);
        __syncthreads();' 'make_float2(s1, s2);' "cuda"
mutant "CUDA: an update does not wait for a checkpoint's copy" train_gpt.cu 'if (copying) CUDA_CHECK(cudaStreamWaitEvent(m->gpu.stream, m->copied, 0));' '' "cuda_test"
mutant "CUDA: a batch is worked at before it is there" llmc/cuda/embedding.h 'CUDA_CHECK(cudaStreamWaitEvent(d->stream, b->staged[b->turn], 0));' '' "cuda_test"
mutant "CUDA: SiLU's slope loses a factor" llmc/cuda/mlp.h 'return a * s * (1 + x * c);' 'return a * s * (1 + c);' "cuda"
mutant "CUDA: sums stop at the group" llmc/cuda/shards.h 'if (last) ranks_sum_across(' 'if (0) ranks_sum_across(' "cuda_ranks_test"
mutant "CUDA: what pads a segment has second moments" llmc/cuda/shards.h 'memset(groups, GROUPS, s->own / PARAM_ALIGN);' ';' "cuda_ranks_test"
mutant "the page cache of a cgroup counts as used" llmc/base/memory.h 'limit - used + cache + swap' 'limit - used + swap' "gpt memory"
mutant "a cgroup above is not looked at" llmc/base/memory.h 'if (n <= (int)point) return;' 'return;' "gpt memory"
mutant "memory of ranks that share a bound is not added up" llmc/run/room.h 'sum += shares ? all[r].need : 0;' 'sum = mine.need;' "memory_test"

# ---- training a tokenizer
mutant "pairs that are too rare are kept" llmc/text/bpe.h 'if (count < t->min_count) return NULL;' '' "gpt bpe_training"
mutant "long words are read whole" llmc/text/bpe.h '#define BPE_BLOCK 16' '#define BPE_BLOCK 4096' "gpt bpe_training"
mutant "of abab a pair stays that is gone" llmc/text/bpe.h 't->behind.at[p.left].is.change -= t->before.at[whole].is.change;' '' "gpt tokenizer"
mutant "a word of a report is a letter" llmc/run/fertility.h 'words += !inside && !(kind & TEXT_SPACE);' 'words += !(kind & TEXT_SPACE);' "bpe_test"

# ---- the record of a run
mutant "a counter of energy that started again counts backwards" llmc/account/energy.h 'return now >= last ? now - last : now + fmax(range - last, 0);' 'return now - last;' "gpt account"
mutant "the starts before are not summed" llmc/account/account.h 'account_sum(&a->before, j);' '' "account_test"
mutant "a figure that contradicts the record is taken" llmc/account/view.h 'fabs(said - recorded) <= share * fabs(recorded)) return true;' 'true) return true;' "account_test"
mutant "a word for the shell keeps its quote" llmc/account/reproduce.h "if (*c == '\\'') str_puts(s, \"'\\\\''\");" "if (*c == '\\'') str_puts(s, \"'\");" "gpt account"

# shellcheck disable=SC2016  # the text of a function
mutant "an option is arithmetic for bash" scripts/common.sh 'whole() { [[ $1 =~ ^(0|[1-9][0-9]{0,14})$ ]]; }' 'whole() { true; }' "scripts_test"
