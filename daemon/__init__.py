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
    worker.py     lifting, in a process of its own that may crash
    web/          the HTTP API and the page
    service.py    starts these, carries messages between them, stops them
    child.py      a process that ends with its parent and never blocks it
    access.py     who may reach the daemon: addresses, tokens, peers that cause errors

`ingest_process.py` runs `ingest` in a process of its own under the service, as `worker.py` does for lifting.

This package knows nothing of engines (they speak the wire protocol) nor of models (the worker asks
`realmaster.lift`).
"""
