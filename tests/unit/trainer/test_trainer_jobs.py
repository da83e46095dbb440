import dataclasses
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from trainer_cases import table

from solera_core import artifact
from solera_core.failures import Failure, Reason
from solera_core.job import ArtifactReference, DataDefaults, Job, Runtime, StoreLocation
from solera_core.result import parse_result
from solera_core.salt import split_salt
from solera_core.store import Store
from solera_trainer import supervision
from solera_trainer.__main__ import own_deadline
from solera_trainer.https_source import https_file
from solera_trainer.jobs import run_job
from solera_trainer.machine import cpus
from solera_trainer.sources import DataAccess


@pytest.fixture
def world(tmp_path):
    """Return a train Job on files of a volume, what it needs, and its store: a directory."""
    volume = tmp_path / "volume"
    volume.mkdir()
    pq.write_table(table(), volume / "a.parquet")
    training = {
        "data": {"uri": "pvc://claim/*.parquet", "target": "y"},
        "candidates": [
            {"name": "tree", "estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_depth": 3}}
        ],
        "validation": {"folds": 3},
    }
    location = StoreLocation(f"file://{tmp_path}/store")
    job = Job(
        kind="train",
        namespace="ns",
        model="m",
        version="m-v1",
        uid="0123456789",
        task="Classification",
        training=training,
        salt=split_salt("m", 0),
        store=location,
        runtime=Runtime("sklearn-1.9", "1.9.1", "trainer:1", "server:1"),
        deadline_seconds=300,
    )
    return job, DataAccess(volume=volume), Store(location, None)


def evaluation(job, result, gates, code="0a1b2c3d"):
    reference = ArtifactReference(result["artifact"]["uri"], result["artifact"]["digest"])
    return dataclasses.replace(job, kind="evaluate", artifact=reference, gates=tuple(gates), evaluation=code)


def report(job, code=None):
    return dataclasses.replace(job, kind="report", evaluation=code)


def test_train_evaluate_report(world):
    job, access, store = world
    made = run_job(job, access, store, 1)
    assert made["artifact"]["uri"].endswith(made["artifact"]["digest"].replace(":", "-"))
    judged = run_job(evaluation(job, made, [{"metric": "accuracy", "min": "0.5"}]), access, store, 1)
    assert judged["passed"]
    assert judged["digest"] == made["artifact"]["digest"]
    assert run_job(report(job), access, store, 1) == made
    assert run_job(report(job, "0a1b2c3d"), access, store, 1) == judged
    beside = store.read(f"{made['artifact']['uri']}/result.json", 10**6)
    assert parse_result(beside) == made


def test_a_retry_after_the_commit_mark_says_the_same_without_data(world, tmp_path):
    job, access, store = world
    made = run_job(job, access, store, 1)
    assert run_job(job, DataAccess(volume=tmp_path / "gone"), store, 1) == made


def test_a_version_that_was_made_again_is_trained_again(world, tmp_path):
    job, access, store = world
    run_job(job, access, store, 1)
    again = dataclasses.replace(job, uid="9876543210")
    with pytest.raises(Failure, match="is not mounted"):
        run_job(again, DataAccess(volume=tmp_path / "gone"), store, 1)


def test_a_retry_after_a_death_before_the_mark_finds_the_artifact(world):
    job, access, store = world
    made = run_job(job, access, store, 1)
    (Path(store.uri.removeprefix("file://")) / "ns/m/versions/m-v1-01234567/result.json").unlink()
    assert run_job(job, access, store, 1) == made


def test_gates_edited_are_judged_without_training(world):
    job, access, store = world
    made = run_job(job, access, store, 1)
    strict = run_job(
        evaluation(job, made, [{"metric": "accuracy", "min": "1"}], "00000001"), access, store, 1
    )
    assert not strict["passed"]
    assert strict["gates"][0]["message"]


def test_a_report_without_result(world):
    job, access, store = world
    with pytest.raises(Failure, match="the work was not finished") as raised:
        run_job(report(job), access, store, 1)
    assert raised.value.reason == Reason.RESULT_NOT_FOUND


def test_an_artifact_that_is_gone_or_changed(world):
    job, access, store = world
    made = run_job(job, access, store, 1)
    asked = evaluation(job, made, [])
    path = Path(made["artifact"]["uri"].removeprefix("file://")) / artifact.MODEL
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(Failure, match=r"model\.skops has the SHA-256"):
        run_job(asked, access, store, 1)
    other = ArtifactReference(made["artifact"]["uri"][:-4] + "0000", made["artifact"]["digest"])
    with pytest.raises(Failure, match="there is no artifact at"):
        run_job(dataclasses.replace(asked, artifact=other), access, store, 1)


def test_an_evaluation_needs_the_trainings_rows(world):
    job, access, store = world
    made = run_job(job, access, store, 1)
    path = Path(store.uri.removeprefix("file://")) / "ns/m/versions/m-v1-01234567/training-rows.bin"
    kept = path.read_bytes()
    path.write_bytes(kept[:-8])
    with pytest.raises(Failure, match=r"training-rows\.bin has the digest"):
        run_job(evaluation(job, made, []), access, store, 1)
    path.unlink()
    with pytest.raises(Failure, match=r"training-rows\.bin is gone") as raised:
        run_job(evaluation(job, made, []), access, store, 1)
    assert raised.value.reason == Reason.ARTIFACT_CORRUPT


def changed(job, path, value):
    training = json.loads(json.dumps(job.training))
    *way, last = path
    node = training
    for part in way:
        node = node[part]
    node[last] = value
    return dataclasses.replace(job, training=training)


WRONG = [
    (
        ["candidates", 0, "estimator"],
        "sklearn.tree.DecisionTreeClasifier",
        Reason.BAD_ESTIMATOR,
        "Did you mean",
    ),
    (["candidates", 0, "params"], {"max_deph": 3}, Reason.BAD_PARAMETER, 'Did you mean "max_depth"?'),
    (["candidates", 0, "params"], {"max_features": 1}, Reason.BAD_PARAMETER, "could be either"),
    (["validation"], {"metric": "acuracy"}, Reason.BAD_METRIC, 'Did you mean "accuracy"?'),
    (["data", "target"], "Y!", Reason.TARGET_COLUMN_MISSING, 'no target column "Y!"'),
    (["data", "uri"], "pvc://claim/b.parquet", Reason.DATA_NOT_FOUND, 'Did you mean "a.parquet"?'),
    (["data", "uri"], "https://host.example.com/x.csv", Reason.HOST_NOT_ALLOWED, "they allow none"),
    (["data", "uri"], "file:///x.csv", Reason.BAD_SPEC, "spec.training.data.uri"),
    (["data", "checks"], {"minRows": 1000}, Reason.TOO_FEW_ROWS, "asks for 1000"),
    (["folds"], 3, Reason.BAD_SPEC, "spec.training.folds: unknown field"),
]


@pytest.mark.parametrize(("path", "value", "reason", "message"), WRONG)
def test_every_failure_has_its_reason(world, path, value, reason, message):
    job, access, store = world
    with pytest.raises(Failure) as raised:
        run_job(changed(job, path, value), access, store, 1)
    assert (raised.value.reason, message in raised.value.message) == (reason, True), raised.value.message


def test_another_runtime_is_named(world):
    job, access, store = world
    with pytest.raises(Failure, match="no catalogue for runtime"):
        run_job(dataclasses.replace(job, runtime=Runtime("sklearn-0.1")), access, store, 1)
    with pytest.raises(Failure, match=r"scikit-learn 1\.9\.0, and this image's catalogue is for 1\.9\.1"):
        run_job(dataclasses.replace(job, runtime=Runtime("sklearn-1.9", "1.9.0")), access, store, 1)


def start(job, tmp_path, *arguments, **environment):
    log = tmp_path / "termination-log"
    log.touch()
    command = [sys.executable, "-m", "solera_trainer", job.kind, "--termination-log", str(log), *arguments]
    process = subprocess.Popen(
        command,
        env={**os.environ, "SOLERA_JOB": job.encode(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, log


def test_the_process_says_its_failure_and_exit_code_without_importing_scikit_learn(world, tmp_path):
    job = changed(world[0], ["candidates", 0, "params"], {"max_deph": 3})
    process, log = start(job, tmp_path, PYTHONPROFILEIMPORTTIME="1")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 64
    assert log.read_text() == out
    result = parse_result(out)
    assert result["failure"]["reason"] == "BadParameter"
    assert "sklearn" not in {line.rpartition("|")[2].strip() for line in err.splitlines()}


def test_the_process_says_its_result(world, tmp_path):
    job = changed(world[0], ["data"], {"uri": "sklearn://wine", "target": "cultivar"})
    process, log = start(job, tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert parse_result(log.read_bytes()) == parse_result(out.splitlines()[-1])


def slow(job):
    """A job that would take minutes."""
    candidate = {
        "name": "slow",
        "estimator": "sklearn.ensemble.GradientBoostingClassifier",
        "params": {"n_estimators": 5000},
    }
    return changed(
        changed(job, ["candidates"], [candidate]), ["data"], {"uri": "sklearn://digits", "target": "digit"}
    )


def test_the_deadline_is_said_before_kubernetes_kills(world, tmp_path):
    job = dataclasses.replace(slow(world[0]), deadline_seconds=12)
    begin = time.monotonic()
    process, log = start(job, tmp_path)
    process.communicate(timeout=120)
    assert process.returncode == 76
    assert time.monotonic() - begin < 60
    assert parse_result(log.read_bytes())["failure"]["reason"] == "DeadlineExceeded"


def test_sigterm_is_answered_at_once(world, tmp_path):
    process, log = start(slow(world[0]), tmp_path)
    deadline = time.monotonic() + 60
    while "sklearn" not in Path(f"/proc/{process.pid}/maps").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert parse_result(log.read_bytes())["failure"]["reason"] == "Interrupted"


def test_without_a_document(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "SOLERA_JOB"}
    command = [sys.executable, "-m", "solera_trainer", "train", "--termination-log", str(tmp_path / "none")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "set SOLERA_JOB or give --job" in parse_result(done.stdout)["failure"]["message"]


def test_a_document_for_another_kind(world, tmp_path):
    (tmp_path / "job.json").write_text(world[0].encode())
    command = [sys.executable, "-m", "solera_trainer", "report", "--job", str(tmp_path / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "is for train, not for report" in done.stdout


def test_own_deadlines_lie_before_the_jobs():
    assert [own_deadline(seconds) for seconds in (60, 3600, 5)] == [50, 3420, 1]


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("1.5", 2), ("2", 2), ("0.1", 1), ("4", 4)])
def test_cpus(monkeypatch, text, count):
    monkeypatch.setenv("SOLERA_CPUS", text)
    assert cpus() == count
    monkeypatch.setenv("SOLERA_CPUS", "many")
    assert cpus() == len(os.sched_getaffinity(0))


def test_a_bug_is_called_one(capsys):
    with pytest.raises(Failure, match="ZeroDivisionError") as raised:
        supervision.supervised(lambda: {"x": 1 / 0}, 10)
    assert raised.value.reason == Reason.INTERNAL_ERROR
    assert "Traceback" in capsys.readouterr().err


def test_running_out_of_memory_is_said():
    def work():
        raise MemoryError

    with pytest.raises(Failure, match=r"raise training\.pod\.resources") as raised:
        supervision.supervised(work, 10)
    assert raised.value.reason == Reason.OUT_OF_MEMORY


class Host(http.server.BaseHTTPRequestHandler):
    seen: list[str | None]

    def handle_get(self):
        self.seen.append(self.headers.get("Authorization"))
        port = self.server.server_port
        places = {
            "/there.csv": f"https://localhost:{port}/x.csv",
            "/plain.csv": f"http://127.0.0.1:{port}/x.csv",
        }
        places["/here.csv"] = f"https://127.0.0.1:{port}/x.csv"
        if self.path in places:
            self.send_response(302)
            self.send_header("Location", places[self.path])
            self.end_headers()
            return
        status = {"/x.csv": 200, "/short.csv": 200, "/chunk.csv": 200, "/secret.csv": 401}
        self.send_response(status.get(self.path, 404))
        if self.path == "/short.csv":
            self.send_header("Content-Length", "1000")
        if self.path == "/chunk.csv":
            self.protocol_version = "HTTP/1.1"
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"20\r\na,b\n1,2\n" if self.path == "/chunk.csv" else b"a,b\n1,2\n")

    def __getattr__(self, name):
        if name == "do_GET":
            return self.handle_get
        raise AttributeError(name)

    def log_message(self, *_):
        pass


@pytest.fixture
def host(tmp_path):
    """Serve https on the loopback with a certificate of its own; yields (URL, client context, headers seen)."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        (
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 "
            f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
        ).split(),
        check=True,
        capture_output=True,
    )
    seen: list[str | None] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHost", (Host,), {"seen": seen}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", ssl.create_default_context(cafile=str(certificate)), seen
    server.shutdown()
    thread.join()
    server.server_close()


def test_https_reads_with_a_token_and_follows_the_same_host(host, tmp_path):
    url, context, seen = host
    (tmp_path / "token").write_text("abc")
    for path in ("/x.csv", "/here.csv"):
        with https_file(url + path, tmp_path, context) as stream:
            assert stream.read() == b"a,b\n1,2\n"
    assert set(seen) == {"Bearer abc"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/there.csv", Reason.HOST_NOT_ALLOWED),
        ("/plain.csv", Reason.HOST_NOT_ALLOWED),
        ("/none.csv", Reason.DATA_NOT_FOUND),
        ("/secret.csv", Reason.STORE_DENIED),
        ("/short.csv", Reason.STORE_UNAVAILABLE),
        ("/chunk.csv", Reason.STORE_UNAVAILABLE),
    ],
)
def test_https_refuses_other_hosts_and_names_answers(host, path, reason):
    url, context, _ = host
    with pytest.raises(Failure) as raised, https_file(url + path, None, context):
        pass
    assert raised.value.reason == reason


def test_a_certificate_that_nobody_vouches_for_is_refused(host):
    with (
        pytest.raises(Failure, match="CERTIFICATE_VERIFY_FAILED") as raised,
        https_file(host[0] + "/x.csv", None),
    ):
        pass
    assert raised.value.reason == Reason.STORE_UNAVAILABLE


def test_data_defaults_reach_the_sources(world):
    job, _, store = world
    asked = changed(job, ["data", "uri"], "https://host.example.com/x.csv")
    access = DataAccess(DataDefaults(allowed_hosts=("other.example.com",)))
    with pytest.raises(
        Failure, match=r'do not allow the host "host\.example\.com"; they allow other\.example\.com'
    ):
        run_job(asked, access, store, 1)
