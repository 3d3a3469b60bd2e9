"""The HTTP side: `api` answers requests, `app` mounts it, `guard` says who may use it, `server` runs all, `static/` is
the page."""
