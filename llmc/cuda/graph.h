/*
graph.h: work that is captured as a CUDA graph at its second run and replayed from then on.

    graph_run(&graph, key, device, [=]() { launches });

The key names all that the launches depend on besides device memory; another key makes another graph. The first run with
a key goes to the stream directly: that settles how matrix products are made, loads kernels and connects ranks, none
of which a capture allows. Work must not allocate, wait, or copy to memory that is not pinned.
*/
#ifndef LLMC_CUDA_GRAPH_H
#define LLMC_CUDA_GRAPH_H

#include "cuda.h"

typedef struct {
    int B, T;          // sequences, tokens
    double grad_scale; // of the loss
    int passes;        // which of them, in the caller's bits
    bool documents;    // rows hold several
    bool pairs;        // of answers, which the loss is of
} GraphKey;

typedef struct {
    GraphKey key;
    int runs; // with this key; 0: none
    cudaGraphExec_t exec;
} Graph;

static inline void graph_close(Graph *g) {
    if (g->exec) CUDA_CHECK(cudaGraphExecDestroy(g->exec));
    g->exec = NULL;
    g->runs = 0;
}

template <typename Work> static inline void graph_run(Graph *g, GraphKey key, Device *d, Work work) {
    if (g->key.B != key.B || g->key.T != key.T || g->key.grad_scale != key.grad_scale || g->key.passes != key.passes ||
        g->key.documents != key.documents || g->key.pairs != key.pairs)
        graph_close(g);
    g->key = key;
    g->runs++;
    // NCCL may mix direct and captured work safely where the one has ended before the other begins.
    if (d->graphs && !g->exec) device_synchronize(d);
    watchdog_enter(d->dist->watchdog,
                   "the other ranks, to begin a pass (graph_run)"); // the first collectives connect them
    if (!d->graphs || g->runs == 1) work();
    else {
        if (!g->exec) {
            cudaGraph_t graph;
            CUDA_CHECK(cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal));
            work();
            CUDA_CHECK(cudaStreamEndCapture(d->stream, &graph));
            CUDA_CHECK(cudaGraphInstantiate(&g->exec, graph, 0));
            CUDA_CHECK(cudaGraphDestroy(graph));
        }
        CUDA_CHECK(cudaGraphLaunch(g->exec, d->stream));
    }
    watchdog_leave(d->dist->watchdog);
}

#endif
