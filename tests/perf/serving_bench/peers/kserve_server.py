"""KServe: its sklearn server, which is not published as a package, written on its ModelServer as its guide advises.

``python kserve_server.py --http_port PORT --model_name model`` with the joblib file in BENCH_MODEL.
"""

import os

import joblib
from kserve import Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response


class SklearnModel(Model):
    """V1 and V2, arrays and data frames: what KServe's own helpers make of a payload."""

    def __init__(self, name, path):
        super().__init__(name)
        self._path = path
        self.load()

    def load(self):
        self._model = joblib.load(self._path)
        self.ready = True
        return True

    def predict(self, payload, headers=None):  # noqa: ARG002 - KServe passes them
        return get_predict_response(payload, self._model.predict(get_predict_input(payload)), self.name)


if __name__ == "__main__":
    ModelServer().start([SklearnModel("model", os.environ["BENCH_MODEL"])])
