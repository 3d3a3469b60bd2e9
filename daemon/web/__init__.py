"""The HTTP side: `app` has the API, `guard` who may use it, `server` runs both, `static/` is the page."""
