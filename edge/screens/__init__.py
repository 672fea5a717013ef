"""Pages of the stations: files that `edge/web_app.py` serves as they are."""
