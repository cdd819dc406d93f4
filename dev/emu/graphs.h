/*
graphs.h (emulator): capturing streams into a graph, and launching it.
*/
#ifndef EMU_GRAPHS_H
#define EMU_GRAPHS_H

#include "streams.h"

typedef enum { cudaStreamCaptureModeThreadLocal } cudaStreamCaptureMode;
struct EmuGraph {
    EmuWork work;
};
typedef EmuGraph *cudaGraph_t;
typedef EmuGraph *cudaGraphExec_t;

static inline cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
    if (!s || emu_streams.capture) return cudaErrorStreamCaptureUnsupported;
    emu_streams.capture = ++emu_streams.captures;
    emu_streams.captured = std::make_shared<std::vector<EmuCaptured>>();
    emu_streams.lanes = {s};
    s->lane = 0;
    return cudaSuccess;
}
// Other streams must have come back: someone waits for what they did last.
static inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *g) {
    EmuStreams &e = emu_streams;
    *g = new EmuGraph{e.captured};
    bool joined = true;
    for (size_t lane = 1; lane < e.lanes.size(); lane++) {
        bool open = false; // work that no one waits for
        for (const EmuCaptured &c : *e.captured) {
            if (c.lane != (int)lane) continue;
            if (c.op.work && !c.op.record) open = true;
            for (const EmuCaptured &other : *e.captured)
                if (c.op.record && other.lane != (int)lane && other.op.wait == c.op.record) open = false;
        }
        joined &= !open;
    }
    for (EmuStream *s : e.lanes) s->lane = -1;
    e.capture = 0;
    e.lanes.clear();
    e.captured = nullptr;
    return joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined;
}
static inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long = 0) {
    return *e = new EmuGraph(*g), cudaSuccess;
}
// Lane 0 goes into the stream, the others into streams of their own; every launch has tickets of its own.
static inline cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t stream) {
    std::map<EmuTicket *, EmuTicketRef> tickets;
    std::vector<EmuStream *> lanes = {stream}, &all = emu_streams.all;
    for (size_t i = all.size(); i-- > 0;)
        if (all[i]->passing && all[i]->ops.empty()) { // of an earlier launch
            delete all[i];
            all.erase(all.begin() + (long)i);
        }
    auto fresh = [&](const EmuTicketRef &old) {
        EmuTicketRef &t = tickets[old.get()];
        if (old && !t) t = std::make_shared<EmuTicket>();
        return t;
    };
    for (const EmuCaptured &c : *e->work) {
        while ((int)lanes.size() <= c.lane) {
            lanes.push_back(new EmuStream);
            lanes.back()->passing = true;
            all.push_back(lanes.back());
        }
        emu_submit_op(lanes[(size_t)c.lane], {c.op.work, fresh(c.op.wait), fresh(c.op.record)});
    }
    return cudaSuccess;
}
static inline cudaError_t cudaGraphDestroy(cudaGraph_t g) { return delete g, cudaSuccess; }
static inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e) { return delete e, cudaSuccess; }

#endif
