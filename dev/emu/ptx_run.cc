/*
ptx_run.cc (emulator): a machine that executes PTX, a warp at a time; ptx_parse.h reads it, ptx.h says what calls this.

A warp's lanes that stand at the same instruction execute it together; of several groups the one that stands first in
the text goes on, until it reaches the next, so that lanes come together again where the text does. A warp runs until it
waits at a barrier of its block or ends, in the order that CUDA_EMU_ORDER gives.

What it refuses, always, with kernel, line of source, thread and address:
    memory     misaligned; outside of what cudaMalloc gave, or of shared, local or parameter memory
    values     an address, a branch or a store to global memory that depends on what was never written
    lanes      a barrier, or an instruction of a whole warp, that some lanes do not reach; lanes missing from a mask
    races      on shared memory: two threads, one of which writes, without a barrier of the block (or, inside a warp,
               bar.warp.sync) between them; a place that a copy under way still writes
    launches   more threads than .maxntid, more registers or shared memory than a block has

A device may choose, and the machine is told how: CUDA_EMU_COPIES=early: what cp.async copies arrives at once, not when
it is waited for. CUDA_EMU_MATH=edge: mma adds as coarsely as tensor cores have been seen to (products in groups of 8,
aligned to the largest and cut off; Fasi, Higham, Mikaitis, Pranesh 2021), ex2 is off by up to 2 ulp.

Not modelled: caches and the order of stores between blocks, time, races on global memory.
The state of a block is in ptx_warp.h, what each instruction does in ptx_opcodes.h.
*/
#include "ptx_opcodes.h"

extern "C" char __executable_start;

namespace ptx {

// The barrier of the block: all lanes of the warp that have not ended are here.
static void block_barrier(Warp &w, const Inst &i, uint32_t m, int pc) {
    if (i.number) fault(w, i, 0, "a barrier other than 0 is not known here");
    if (m != w.live)
        fault(w, i, __builtin_ctz(w.live & ~m), "bar.sync in code that some lanes of the warp do not reach");
    w.waits_at = pc;
    lanes(m, [&](int l) { w.pc[l] = pc + 1; });
}

// The lanes that stand first in the text, and in *other where the next ones stand.
static uint32_t first_group(const Warp &w, int *pc, int *other) {
    uint32_t group = 0;
    *pc = *other = INT_MAX;
    for (uint32_t m = w.live; m; m &= m - 1) {
        int l = __builtin_ctz(m);
        if (w.pc[l] < *pc) *other = *pc, *pc = w.pc[l], group = 0;
        if (w.pc[l] == *pc) group |= 1u << l;
        else if (w.pc[l] < *other) *other = w.pc[l];
    }
    return group;
}

// Runs a warp until it waits at the block's barrier or has ended.
static void run_warp(Warp &w) {
    const Inst *code = w.block->kernel->code.data();
    uint64_t executed = 0;
    while (w.live && w.waits_at < 0) {
        int pc, other;
        uint32_t group = first_group(w, &pc, &other);
        while (pc < other) { // as one, until it parts or reaches others
            const Inst &i = code[pc];
            uint32_t m = group;
            executed++;
            if (i.guard >= 0) {
                need(w, i, group, w.predicate_known(i.guard), "a branch on what was never written");
                m &= i.unless ? ~w.predicate(i.guard) : w.predicate(i.guard);
            }
            Flow flow = i.row->flow;
            if (flow == FLOW_NEXT) {
                if (m) i.run(w, i, m);
                pc++;
                continue;
            }
            if (!m || (flow == FLOW_BRANCH && m == group)) {
                pc = m ? i.target : pc + 1;
                if (pc > other || i.target < pc) break; // others come first
                continue;
            }
            if (flow == FLOW_BARRIER) block_barrier(w, i, m, pc);
            if (flow == FLOW_END) w.live &= ~m;
            if (flow != FLOW_BARRIER) lanes(group, [&](int l) { w.pc[l] = pc + 1; });
            if (flow == FLOW_BRANCH) lanes(m, [&](int l) { w.pc[l] = i.target; });
            group = 0;
            break;
        }
        lanes(group, [&](int l) { w.pc[l] = pc; });
    }
    w.block->machine->executed += executed;
}

static void start_warp(Warp &w, size_t threads) {
    const Kernel &k = *w.block->kernel;
    std::fill(w.known.begin(), w.known.end(), 0);
    std::fill(w.predicates_known.begin(), w.predicates_known.end(), 0);
    std::fill(w.local_known.begin(), w.local_known.end(), 0);
    for (const Constant &c : k.constants) {
        if (!c.bytes) {
            w.set(c.slot, ALL, c.value ? ALL : 0, ALL);
            continue;
        }
        w.know(c.slot, ALL, ALL);
        for (int l = 0; l < 32; l++)
            if (c.bytes == 8) w.at<uint64_t>(c.slot)[l] = c.value;
            else if (c.bytes == 4) w.at<uint32_t>(c.slot)[l] = (uint32_t)c.value;
            else w.at<uint16_t>(c.slot)[l] = (uint16_t)c.value;
    }
    w.live = 0, w.waits_at = -1;
    for (int l = 0; l < 32; l++) {
        unsigned t = (unsigned)(w.number * 32 + l), x = t % blockDim.x, y = t / blockDim.x % blockDim.y;
        w.pc[l] = 0, w.copies[l] = Copies();
        if (t < threads) w.live |= 1u << l;
        const struct {
            const char *name;
            unsigned x, y, z;
        } values[] = {{"%tid", x, y, t / blockDim.x / blockDim.y},
                      {"%ntid", blockDim.x, blockDim.y, blockDim.z},
                      {"%ctaid", blockIdx.x, blockIdx.y, blockIdx.z},
                      {"%nctaid", gridDim.x, gridDim.y, gridDim.z},
                      {"%laneid", (unsigned)l, 0, 0}};
        for (const Special &s : k.specials) {
            size_t dot = s.name.find('.');
            const unsigned *v = nullptr;
            for (const auto &value : values)
                if (s.name.substr(0, dot) == value.name)
                    v = dot == std::string::npos || s.name[dot + 1] == 'x' ? &value.x
                        : s.name[dot + 1] == 'y'                           ? &value.y
                                                                           : &value.z;
            if (!v) die(k.name + ": special register " + s.name + " is not known here");
            w.at<uint32_t>(s.slot)[l] = *v;
        }
    }
    for (const Special &s : k.specials) w.know(s.slot, ALL, ALL);
}

static void run_block(Block &b, const std::vector<int> &order, size_t threads) {
    std::fill(b.shared.begin(), b.shared.end(), (char)0xff);
    std::fill(b.shared_known.begin(), b.shared_known.end(), 0);
    std::fill(b.words.begin(), b.words.end(), Word());
    for (Warp &w : b.warps) start_warp(w, threads);
    for (bool live = true; live; b.epoch++) {
        live = false;
        for (int n : order) run_warp(b.warps[(size_t)n]);
        int at = -1; // where the block waits
        for (Warp &w : b.warps) {
            if (w.waits_at < 0) continue;
            if (at >= 0 && at != w.waits_at)
                fault(w, b.kernel->code[(size_t)w.waits_at], 0, "warps of a block wait at different barriers");
            at = w.waits_at, w.waits_at = -1, w.sync++, live = true;
        }
    }
}

// "Performance-Tuning Directives"; registers: 64 K a block, given out to warps in units of 256 (CUDA C++ Programming
// Guide, "Technical Specifications per Compute Capability").
static void check_launch(const Kernel &k, const EmuConfig &c, const EmuArguments &arguments) {
    size_t threads = (size_t)c.block.x * c.block.y * c.block.z, warps = (threads + 31) / 32;
    size_t registers = round_up((size_t)k.registers * 32, 256) * warps;
    std::string why;
    if (threads > k.max_threads) why = "more threads than its __launch_bounds__ of " + std::to_string(k.max_threads);
    if (k.exact_threads && threads != k.exact_threads) why = "not the threads that it requires";
    if (registers > 65536) why = std::to_string(registers) + " registers, of 65536";
    if (arguments.size() != k.params.size()) why = std::to_string(arguments.size()) + " arguments";
    for (size_t a = 0; a < arguments.size() && why.empty(); a++)
        if (arguments[a].size() != k.params[a].bytes) why = "an argument of another size, number " + std::to_string(a);
    if (!why.empty()) die(k.name + " is launched with " + std::to_string(threads) + " threads: " + why);
}

static void read_symbols(Machine &m) {
    char line[4096];
    std::string command = "nm -S /proc/" + std::to_string(getpid()) + "/exe 2>/dev/null";
    // Without what is loaded before this program, such as the library that makes calls fail: it would meet nm as well.
    const char *preload = getenv("LD_PRELOAD");
    std::string kept = preload ? preload : "";
    unsetenv("LD_PRELOAD");
    FILE *in = popen(command.c_str(), "r");
    if (preload) setenv("LD_PRELOAD", kept.c_str(), 1);
    uint64_t base = 0;
    std::map<std::string, uint64_t> functions;
    while (in && fgets(line, sizeof line, in)) {
        unsigned long long at, size = 0;
        char kind, text[4000];
        if (sscanf(line, "%llx %llx %c %3999s", &at, &size, &kind, text) != 4 &&
            sscanf(line, "%llx %c %3999s", &at, &kind, text) != 3)
            continue;
        std::string name(text);
        if (name == "__executable_start") base = (uint64_t)&__executable_start - at;
        for (const char *local : {"_ZL", "_ZZL"}) // static
            if (name.compare(0, strlen(local), local) == 0) name.erase(strlen(local) - 1, 1);
        if (strchr("tTwW", kind)) m.symbols[at] = name;
        else if (strchr("bBdDuvV", kind)) m.static_shared[name] = size;
    }
    if (in) pclose(in);
    std::unordered_map<uint64_t, std::string> moved;
    for (auto &s : m.symbols) moved[s.first + base] = s.second;
    m.symbols = moved;
}

static Machine &machine() {
    static Machine *m = nullptr;
    if (m) return *m;
    m = new Machine;
    const char *file = getenv("CUDA_EMU_PTX");
    if (file && *file) m->module = module_open(file);
    m->edge = emu_chosen("CUDA_EMU_MATH", "exact", "edge");
    if (m->module.arch)
        atexit([]() {
            const char *list = getenv("CUDA_EMU_PTX_RAN"); // a file to which the names of what ran are added
            FILE *f = list ? fopen(list, "a") : nullptr;
            for (const std::string &name : m->ran)
                if (f) fprintf(f, "%s\n", name.c_str());
            if (f) fclose(f);
            fprintf(stderr, "emulator: PTX for sm_%d: %zu of %zu kernels ran, %.3g million instructions of warps\n",
                    m->module.arch, m->ran.size(), m->module.kernels.size(), (double)m->executed * 1e-6);
        });
    return *m;
}

static Kernel &kernel_of(const void *function) {
    Machine &m = machine();
    auto found = m.module.kernels.find(emu_symbol(function));
    if (found == m.module.kernels.end()) die(std::string("the file has no kernel ") + emu_symbol(function));
    if (!found->second.parsed) Parser(m.module, found->second, OPCODES).parse();
    return found->second;
}

} // namespace ptx

int emu_ptx_arch() {
    static const int arch = ptx::machine().module.arch;
    return arch;
}

const char *emu_symbol(const void *function) {
    ptx::Machine &m = ptx::machine();
    if (!m.named) ptx::read_symbols(m);
    m.named = true;
    auto found = m.symbols.find((uint64_t)function);
    if (found != m.symbols.end()) return found->second.c_str();
    if (m.module.arch) ptx::die("nm (Debian: binutils) does not read the name of a kernel of this program");
    return "";
}

void emu_ptx_run(const void *function, const EmuConfig &c, const EmuArguments &arguments) {
    using namespace ptx;
    Machine &m = machine();
    const Kernel &k = kernel_of(function);
    check_launch(k, c, arguments);
    size_t threads = (size_t)c.block.x * c.block.y * c.block.z, n = (size_t)c.grid.x * c.grid.y * c.grid.z;
    std::vector<char> params(k.param_bytes + 16);
    for (size_t a = 0; a < arguments.size(); a++)
        memcpy(&params[k.params[a].offset], arguments[a].data(), arguments[a].size());
    Block b;
    b.machine = &m, b.kernel = &k, b.params = params.data();
    b.shared.resize(c.shared ? k.dynamic_at + c.shared : k.shared_bytes);
    b.shared_known.resize(b.shared.size());
    b.words.resize(b.shared.size() / 4 + 1);
    b.warps.resize((threads + 31) / 32);
    for (size_t w = 0; w < b.warps.size(); w++) {
        b.warps[w].block = &b, b.warps[w].number = (int)w;
        b.warps[w].file.resize((size_t)(k.slots + 1) * 32);
        b.warps[w].known.resize((size_t)k.slots + 1);
        b.warps[w].predicates.resize((size_t)k.predicates + 1);
        b.warps[w].predicates_known.resize((size_t)k.predicates + 1);
        b.warps[w].local.resize(k.local_bytes * 32);
        b.warps[w].local_known.resize(k.local_bytes * 32);
    }
    std::vector<int> blocks, order;
    emu_ordering(blocks, n);
    emu_ordering(order, b.warps.size());
    m.ran.insert(k.name);
    gridDim = c.grid, blockDim = c.block;
    for (int at : blocks) {
        blockIdx = {(unsigned)at % c.grid.x, (unsigned)at / c.grid.x % c.grid.y, (unsigned)at / c.grid.x / c.grid.y};
        run_block(b, order, threads);
    }
}

size_t emu_shared_limit() { return emu_number("CUDA_EMU_SHARED", emu_ptx_arch() == 80 ? 163 << 10 : 227 << 10); }

size_t emu_static_shared(const void *function) {
    ptx::Machine &m = ptx::machine();
    if (m.module.arch) return ptx::kernel_of(function).shared_bytes;
    std::string name = emu_symbol(function);
    if (name.size() < 2) return 0;                     // a test makes the calls fail that ask for it
    std::string prefix = "_ZZ" + name.substr(2) + "E"; // variables of a function have its name
    size_t bytes = 0;
    for (const auto &s : m.static_shared)
        if (s.first.compare(0, prefix.size(), prefix) == 0) bytes += s.second;
    return bytes;
}
