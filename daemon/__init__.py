"""The process that keeps what an engine sends: ingest -> (take, ring) -> worker -> web.

A frame's way, one module per step, in reading order:

    ingest.py     ZeroMQ sessions: token, credits, checks; hands each frame to the recorder and the ring
    session.py    one bridge: its counts, and how many frames it may have under way
    encoding.py   compresses each frame once, for whoever keeps it
    recorder.py   the thread that writes one take; its commits are the acknowledgements
    ring.py       the last seconds of a session, compressed, in bounded memory, for instant replay
    preview.py    the newest frame as a live picture
    jpeg.py       a frame's channel as a JPEG
    live.py       the newest frames lifted again and again
    library.py    the takes that are there
    exporter.py   exports and trims, in a process of their own
    models.py     what there is to lift with, asked of a short-lived process
    lifts.py      the lift queue, which watches the lifting process and starts it again
    worker.py     lifting, in a process of its own that may crash
    vitals.py     whether a process still gets on
    web/          the HTTP API and the page
    service.py    starts these, carries messages between them, stops them
    metrics.py    the daemon in figures, for Prometheus and for support
    logs.py       what all processes log, in one form
    child.py      a process that ends with its parent and never blocks it
    gate.py       who gets in from other machines, by CURVE keys
    access.py     who may reach the daemon: addresses, tokens, peers that cause errors

`ingest_process.py` runs `ingest` in a process of its own under the service, as `worker.py` does for lifting.

This package knows nothing of engines (they speak the wire protocol) nor of models (the worker asks
`realmaster.lift`).
"""
