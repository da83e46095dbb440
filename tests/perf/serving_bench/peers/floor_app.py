"""The floor: the least that serves a scikit-learn model on an ASGI server, without types, checks or routes."""

import os

import joblib
import numpy as np
import orjson

MODEL = joblib.load(os.environ["BENCH_MODEL"])
FRAME = os.environ["BENCH_FRAME"] == "1"
if FRAME:
    import pandas as pd


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    rows = orjson.loads(body)["rows"]
    labels = MODEL.predict(pd.DataFrame(rows) if FRAME else np.array(rows))
    answer = orjson.dumps({"predictions": labels.tolist()})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
