/*
ptx_parse.h (emulator): reads PTX, as nvcc writes it, into a list of instructions for each kernel.

    Module     a file: where its kernels stand, the names of its source files, what ptxas said of each kernel
    Kernel     parameters, registers, constants, arrays in shared and local memory, instructions
    Inst       one instruction: the row of the table of opcodes that it is, and its operands in order

Nothing is guessed: an opcode with modifiers, a type, an operand or a directive that no rule here or row there covers is
an error that names the line. Source: PTX ISA 9.0, chapters "Syntax", "State Spaces, Types, and Variables",
"Instruction Operands" and "Directives".
*/
#ifndef EMU_PTX_PARSE_H
#define EMU_PTX_PARSE_H

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ptx {

[[noreturn]] inline void die(const std::string &what) {
    fprintf(stderr, "error: emulator: PTX: %s\n", what.c_str());
    abort();
}

// "Fundamental Types"
enum Type {
    T_NONE,
    T_PRED,
    T_B8,
    T_U8,
    T_S8,
    T_B16,
    T_U16,
    T_S16,
    T_BF16,
    T_B32,
    T_U32,
    T_S32,
    T_F32,
    T_B64,
    T_U64,
    T_S64,
    T_F64
};
struct TypeRow {
    const char *name;
    int bytes;
};
inline const TypeRow &type_row(Type t) {
    static const TypeRow rows[] = {{"", 0},    {"pred", 0}, {"b8", 1},   {"u8", 1},  {"s8", 1},  {"b16", 2},
                                   {"u16", 2}, {"s16", 2},  {"bf16", 2}, {"b32", 4}, {"u32", 4}, {"s32", 4},
                                   {"f32", 4}, {"b64", 8},  {"u64", 8},  {"s64", 8}, {"f64", 8}};
    return rows[t];
}
inline Type type_named(std::string_view name) {
    for (int t = T_PRED; t <= T_F64; t++)
        if (name == type_row((Type)t).name) return (Type)t;
    return T_NONE;
}

struct Warp;
struct Inst;
typedef void (*Run)(Warp &, const Inst &, uint32_t lanes);
enum Flow { FLOW_NEXT, FLOW_BRANCH, FLOW_END, FLOW_BARRIER };

// A row of the table of opcodes.
//   stem      the opcode with its modifiers, without the type that ends it
//   types     the types that may end it, "" none
//   operands  in order: T a register as wide as the type, W twice as wide, h w d of 16, 32, 64 bits, x any, p a
//             predicate, a an address, n a number, l a label; {..} a vector, | between two results
//   pick      gives the function for a type
struct Row {
    const char *stem, *types, *operands;
    Run (*pick)(Type);
    Flow flow = FLOW_NEXT;
};

enum { MAX_OPERANDS = 14, MAX_ADDRESSES = 2 };
struct Address {
    int base = -1; // register; -1: the offset is all
    int bytes = 0; // of the base
    int64_t offset = 0;
};
struct Inst {
    const Row *row = nullptr;
    Run run = nullptr;
    int guard = -1; // predicate, or -1: always
    bool unless = false;
    int bytes = 0; // of the type
    bool sign = false;
    int wide = 0;              // bytes of the registers that may be wider than the type (x)
    int r[MAX_OPERANDS] = {0}; // registers and predicates, in the order of the row
    Address at[MAX_ADDRESSES]; // addresses, in the order of the row
    int64_t number = 0;        // a number
    int target = -1;           // instruction that the label stands before
    int where = -1;            // of the kernel's places
};

// A place in the source; `caller` is where what stands here was inlined: another place, or -1.
struct Place {
    int file, line, column, caller;
};
struct Reg {
    int slot, bytes; // bytes 0: a predicate
};
struct Constant {
    int slot, bytes;
    uint64_t value;
};
struct Special { // %tid.x and its like
    int slot;
    std::string name;
};
struct Param {
    size_t offset, bytes;
};
struct Kernel {
    std::string name;
    std::string_view text; // from its name to its last brace
    bool parsed = false;
    std::vector<Inst> code;
    std::vector<Place> places;
    std::vector<Param> params;
    std::vector<Constant> constants;
    std::vector<Special> specials;
    int slots = 0, predicates = 0; // 128 bytes each: 32 lanes of 32 bits
    size_t param_bytes = 0, shared_bytes = 0, local_bytes = 0, dynamic_at = 0;
    unsigned max_threads = 1024, exact_threads = 0;
    int registers = 0; // of a thread, by ptxas; 0: not known
};
struct Array {
    std::string name;
    size_t align;
};
struct Module {
    std::string text;
    int arch = 0;
    std::map<std::string, Kernel, std::less<>> kernels;
    std::map<int, std::string> files;
    std::vector<Array> dynamic; // extern __shared__
};

inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Words: names with their dots, numbers, strings, single signs.
struct Words {
    const char *at, *end;
    std::string_view word; // "" at the end
    static bool of_name(char c) { return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%' || c == '.'; }
    void space() {
        for (; at < end; at++) {
            if (at + 1 < end && at[0] == '/' && at[1] == '/')
                while (at < end && *at != '\n') at++;
            else if (!isspace((unsigned char)*at)) return;
        }
    }
    std::string_view next() {
        space();
        const char *start = at;
        if (at < end && *at == '"') {
            for (at++; at < end && *at != '"';) at++;
            at++;
        } else if (at < end && (of_name(*at) || (*at == '-' && at + 1 < end && isdigit((unsigned char)at[1])))) {
            for (at++; at < end && (of_name(*at) || (*at == ':' && at + 1 < end && at[1] == ':'));)
                at += *at == ':' ? 2 : 1; // .kind::f8f6f4
        } else if (at < end) at++;
        return word = std::string_view(start, (size_t)(at - start));
    }
    std::string_view line() { // what is left of it
        const char *start = at;
        while (at < end && *at != '\n') at++;
        return std::string_view(start, (size_t)(at - start));
    }
};

struct Parser {
    Module &m;
    Kernel &k;
    const std::vector<Row> &table;
    Words w;
    std::map<std::string, Reg, std::less<>> regs;
    std::map<std::string, size_t, std::less<>> params, arrays; // offsets
    std::map<std::string, int, std::less<>> labels;
    std::vector<std::pair<size_t, std::string>> jumps;
    std::map<std::pair<int, uint64_t>, int> constant_slots;
    std::map<std::tuple<int, int, int>, int> callers; // file, line, column -> place
    int where = -1;

    Parser(Module &module, Kernel &kernel, const std::vector<Row> &rows)
        : m(module), k(kernel), table(rows), w{kernel.text.data(), kernel.text.data() + kernel.text.size(), {}} {}

    [[noreturn]] void wrong(const std::string &what) const {
        size_t line = 1;
        for (const char *p = m.text.data(); p < w.at; p++) line += *p == '\n';
        die("line " + std::to_string(line) + ": " + what + ", at '" + std::string(w.word) + "'");
    }
    void expect(std::string_view sign) {
        if (w.word != sign) wrong("expected '" + std::string(sign) + "'");
        w.next();
    }
    std::string take() {
        std::string name(w.word);
        w.next();
        return name;
    }
    uint64_t number() {
        std::string n = take();
        char *end = nullptr;
        uint64_t v;
        if (n == "WARP_SZ") return 32;
        if (n.size() > 2 && n[0] == '0' && strchr("fFdD", n[1])) v = strtoull(n.c_str() + 2, &end, 16);
        else if (n[0] == '-') v = (uint64_t)strtoll(n.c_str(), &end, 0);
        else v = strtoull(n.c_str(), &end, 0);
        if (!end || *end || end == n.c_str()) wrong("'" + n + "' is no number");
        return v;
    }

    int new_slot(int bytes) {
        int slot = bytes ? k.slots : k.predicates;
        if (bytes) k.slots += bytes == 8 ? 2 : 1;
        else k.predicates++;
        return slot;
    }
    int constant(int bytes, uint64_t value) {
        if (bytes < 8) value &= bytes ? (1ull << 8 * bytes) - 1 : 1;
        auto found = constant_slots.emplace(std::make_pair(bytes, value), bytes ? k.slots : k.predicates);
        if (found.second) k.constants.push_back({new_slot(bytes), bytes, value});
        return found.first->second;
    }
    // A register, or what may stand for one: a special register, a number, an array's address; bytes: as wide as this.
    int source(int bytes) {
        if (w.word == "_") return w.next(), new_slot(bytes);
        auto found = regs.find(w.word);
        if (found == regs.end() && w.word.size() > 1 && w.word[0] == '%') { // "Special Registers"
            Reg r = {new_slot(4), 4};
            k.specials.push_back({r.slot, std::string(w.word)});
            found = regs.emplace(std::string(w.word), r).first;
        }
        if (found != regs.end()) {
            if (found->second.bytes != bytes) wrong("a register of another width");
            return w.next(), found->second.slot;
        }
        auto array = arrays.find(w.word);
        if (array != arrays.end()) return w.next(), constant(bytes, array->second);
        return constant(bytes, number());
    }
    // [register + number], [name + number], [number]
    void address(Address &a) {
        expect("[");
        auto param = params.find(w.word), array = arrays.find(w.word);
        auto reg = regs.find(w.word);
        if (reg != regs.end()) a.base = reg->second.slot, a.bytes = reg->second.bytes, w.next();
        else if (param != params.end()) a.offset = (int64_t)param->second, w.next();
        else if (array != arrays.end()) a.offset = (int64_t)array->second, w.next();
        else a.offset = (int64_t)number();
        if (w.word == "+") w.next(), a.offset += (int64_t)number();
        expect("]");
    }
    void operands(Inst &i, Type t) {
        int r = 0, addresses = 0;
        bool comma = false;
        for (const char *c = i.row->operands; *c; c++) {
            if (*c == ' ') continue;
            if (*c == '}' || *c == '|') {
                expect(std::string_view(c, 1));
                comma = *c == '}';
                continue;
            }
            if (comma) expect(",");
            comma = *c != '{';
            int bytes = *c == 'h' ? 2 : *c == 'w' ? 4 : *c == 'd' ? 8 : *c == 'W' ? 2 * type_row(t).bytes : 0;
            if (*c == '{') expect("{");
            else if (*c == 'a') address(i.at[addresses++]);
            else if (*c == 'n') i.number = (int64_t)number();
            else if (*c == 'l') jumps.push_back({k.code.size(), take()});
            else if (*c == 'p' || (*c == 'T' && t == T_PRED)) i.r[r++] = source(0);
            else if (*c == 'T') i.r[r++] = source(type_row(t).bytes);
            else if (*c == 'x') { // a number is as wide as the type
                auto found = regs.find(w.word);
                int own = found != regs.end() ? found->second.bytes : type_row(t).bytes < 2 ? 2 : type_row(t).bytes;
                if (own < type_row(t).bytes || (i.wide && own != i.wide)) wrong("a register of another width");
                i.r[r++] = source(i.wide = own);
            } else i.r[r++] = source(bytes);
        }
        expect(";");
    }
    // One sign for each operand up to the semicolon: { a vector, [ an address, x another.
    static std::string shape_of(Words ahead) {
        std::string shape;
        int depth = 0;
        bool fresh = true;
        for (ahead.next(); !ahead.word.empty() && ahead.word != ";"; ahead.next()) {
            char c = ahead.word[0];
            if (fresh) shape += c == '{' || c == '[' ? c : 'x';
            if (c == '{' || c == '[') depth++;
            if (c == '}' || c == ']') depth--;
            fresh = c == ',' && !depth;
        }
        return shape;
    }
    static std::string shape_of(const char *operands) {
        std::string shape;
        for (const char *c = operands; *c; c++)
            if (c == operands || c[-1] == ' ') shape += *c == '{' ? '{' : *c == 'a' ? '[' : 'x';
        return shape;
    }
    // The row of an opcode, and its type: the last part of its name, where the row has types.
    const Row *row_of(std::string_view opcode, Type *type) const {
        size_t dot = opcode.rfind('.');
        *type = dot == std::string_view::npos ? T_NONE : type_named(opcode.substr(dot + 1));
        std::string shape = shape_of(w);
        std::string_view stem = *type == T_NONE ? opcode : opcode.substr(0, dot);
        for (const Row &row : table) {
            if (stem != row.stem || shape != shape_of(row.operands)) continue;
            if (*type == T_NONE && !*row.types) return &row;
            std::string types = " " + std::string(row.types) + " ";
            if (*type != T_NONE && types.find(" " + std::string(type_row(*type).name) + " ") != std::string::npos)
                return &row;
        }
        return nullptr;
    }
    void instruction() {
        Inst i;
        i.where = where;
        if (w.word == "@") {
            if (w.next() == "!") i.unless = true, w.next();
            i.guard = source(0);
        }
        Type t = T_NONE;
        i.row = row_of(w.word, &t);
        if (!i.row) wrong("no row of the table of opcodes is this one");
        i.bytes = type_row(t).bytes;
        i.sign = t == T_S8 || t == T_S16 || t == T_S32 || t == T_S64;
        i.run = i.row->pick(t);
        if (!i.run && i.row->flow == FLOW_NEXT) wrong("its row has no function for this type");
        w.next();
        operands(i, t);
        k.code.push_back(i);
    }

    // .loc FILE LINE COLUMN[, function_name LABEL, inlined_at FILE LINE COLUMN] up to the end of the line
    void location() {
        std::string line(w.line());
        Place p = {0, 0, 0, -1};
        sscanf(line.c_str(), "%d %d %d", &p.file, &p.line, &p.column);
        size_t in = line.find("inlined_at");
        if (in != std::string::npos) {
            int f = 0, l = 0, c = 0;
            sscanf(line.c_str() + in, "inlined_at %d %d %d", &f, &l, &c);
            auto found = callers.find({f, l, c});
            if (found == callers.end()) {
                k.places.push_back({f, l, c, -1});
                found = callers.emplace(std::make_tuple(f, l, c), (int)k.places.size() - 1).first;
            }
            p.caller = found->second;
        }
        where = (int)k.places.size();
        k.places.push_back(p);
        callers[{p.file, p.line, p.column}] = where;
        w.next();
    }
    // .align N .b8 NAME[N]: returns the bytes; the name in *name
    size_t array(std::string *name, size_t *align) {
        *align = 1;
        if (w.word == ".align") w.next(), *align = (size_t)number();
        size_t bytes = (size_t)type_row(type_named(w.word.substr(1))).bytes;
        if (!bytes) wrong("expected a type");
        if (*align < bytes) *align = bytes;
        w.next();
        *name = take();
        if (w.word != "[") return bytes;
        w.next();
        if (w.word != "]") bytes *= (size_t)number();
        expect("]");
        return bytes;
    }
    void directive() {
        std::string what = take(), name;
        size_t align;
        if (what == ".reg") {
            int bytes = type_row(type_named(w.word.substr(1))).bytes;
            if (type_named(take().substr(1)) == T_NONE) wrong("expected a type");
            for (;; w.next()) {
                name = take();
                if (w.word == "<") {
                    w.next();
                    int n = (int)number();
                    expect(">");
                    for (int j = 0; j < n; j++) regs[name + std::to_string(j)] = {new_slot(bytes), bytes};
                } else regs[name] = {new_slot(bytes), bytes};
                if (w.word != ",") break;
            }
        } else if (what == ".shared" || what == ".local") {
            size_t &bytes = what == ".shared" ? k.shared_bytes : k.local_bytes;
            size_t size = array(&name, &align);
            bytes = round_up(bytes, align);
            arrays[name] = bytes;
            bytes += size;
        } else if (what == ".pragma") w.next();
        else wrong("directive " + what + " is not known here");
        expect(";");
    }
    void header() {
        w.next();
        for (w.next(); w.word == "(" || w.word == ",";) {
            w.next();
            if (w.word == ")") break;
            if (take() != ".param") wrong("expected .param");
            std::string name;
            size_t align, bytes = array(&name, &align);
            k.param_bytes = round_up(k.param_bytes, align);
            params[name] = k.param_bytes;
            k.params.push_back({k.param_bytes, bytes});
            k.param_bytes += bytes;
        }
        if (w.word == ")") w.next();
        while (w.word != "{") { // "Performance-Tuning Directives"
            std::string what = take();
            unsigned n = (unsigned)number();
            for (; w.word == ","; n *= (unsigned)number()) w.next();
            if (what == ".maxntid") k.max_threads = n;
            else if (what == ".reqntid") k.exact_threads = n;
            else if (what != ".minnctapersm") wrong("directive " + what + " is not known here");
        }
    }
    void parse() {
        header();
        int depth = 0;
        do {
            if (w.word.empty()) wrong("the kernel has no end");
            if (w.word == "{" || w.word == "}") depth += w.word == "{" ? 1 : -1, w.next();
            else if (w.word == ".loc") location();
            else if (w.word[0] == '.') directive();
            else {
                Words ahead = w;
                if (ahead.next() != ":") {
                    if (k.code.empty()) dynamic_arrays();
                    instruction();
                } else if (!labels.emplace(std::string(w.word), (int)k.code.size()).second)
                    wrong("a label stands twice");
                else w = ahead, w.next();
            }
        } while (depth);
        Inst end;
        static const Row end_row = {"ret", "", "", nullptr, FLOW_END};
        end.row = &end_row;
        k.code.push_back(end);
        for (auto &jump : jumps) {
            auto found = labels.find(jump.second);
            if (found == labels.end()) die(k.name + " jumps to " + jump.second + ", which is nowhere");
            k.code[jump.first].target = found->second;
        }
        k.parsed = true;
    }
    // Behind those of known size; all of them begin at the same place, as on a device.
    void dynamic_arrays() {
        size_t align = 16;
        for (const Array &a : m.dynamic) align = a.align > align ? a.align : align;
        k.dynamic_at = round_up(k.shared_bytes, align);
        for (const Array &a : m.dynamic) arrays[a.name] = k.dynamic_at;
    }
};

inline std::string read_text(const std::string &file, bool must) {
    std::string text;
    FILE *f = fopen(file.c_str(), "rb");
    if (!f && must) die("cannot read " + file + ", which CUDA_EMU_PTX names");
    char part[1 << 16];
    for (size_t n; f && (n = fread(part, 1, sizeof part, f)) > 0;) text.append(part, n);
    if (f) fclose(f);
    return text;
}

// Finds what a file holds; kernels are parsed when they are launched.
inline Module module_open(const std::string &file) {
    Module m;
    m.text = read_text(file, true);
    std::string_view text(m.text);
    for (size_t at = 0; at < text.size();) {
        size_t end = text.find('\n', at);
        if (end == std::string_view::npos) end = text.size();
        std::string_view line = text.substr(at, end - at);
        size_t entry = line.find(".entry ");
        char name[200];
        int n, align;
        if (entry != std::string_view::npos) {
            std::string_view rest = text.substr(at + entry + 7);
            Kernel k;
            k.name = std::string(rest.substr(0, rest.find('(')));
            k.text = rest.substr(0, rest.find("\n}") + 2);
            end = at + entry + 7 + k.text.size();
            m.kernels[k.name] = k;
        } else if (sscanf(std::string(line).c_str(), ".target sm_%d", &n) == 1) m.arch = n;
        else if (sscanf(std::string(line).c_str(), ".extern .shared .align %d .b8 %199[^[]", &align, name) == 2)
            m.dynamic.push_back({name, (size_t)align});
        else if (sscanf(std::string(line).c_str(), " .file %d \"%199[^\"]", &n, name) == 2) m.files[n] = name;
        at = end + 1;
    }
    if (!m.arch || m.kernels.empty()) die(file + " holds no kernel");
    // "Compiling entry function 'NAME'" ... "Used N registers"
    std::string info = read_text(file + ".info", false), kernel;
    for (size_t at = 0; at < info.size();) {
        size_t end = info.find('\n', at);
        if (end == std::string::npos) end = info.size();
        std::string line = info.substr(at, end - at);
        size_t name = line.find("entry function '"), used = line.find("Used ");
        if (name != std::string::npos) kernel = line.substr(name + 16, line.find('\'', name + 16) - name - 16);
        if (used != std::string::npos && m.kernels.count(kernel)) m.kernels[kernel].registers = atoi(&line[used + 5]);
        at = end + 1;
    }
    return m;
}

} // namespace ptx

#endif
