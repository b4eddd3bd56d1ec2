"""A real MONAI Label server with our bundles, small enough for a training of seconds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml

from monai_ssl.networks.first_model import write_first_model
from monai_ssl.utils.bundle_files import copy_bundle

SEGMENTATION, PRETRAINING, DETECTION = "semi_segmentation", "ssl_pretraining", "focalmix_detection"
# small enough for a tenth of a second a step
TINY = {
    SEGMENTATION: {
        "epoch_length": 2,
        "patch_size": [16, 16, 16],
        "network_def": {"channels": [4, 8], "strides": [2]},
    },
    PRETRAINING: {
        "epoch_length": 2,
        "patch_size": [16, 16, 16],
        "network_def": {"channels": [4, 8], "strides": [2]},
    },
    DETECTION: {
        "epoch_length": 2,
        "patch_size": [32, 32, 32],
        "labeled_batch_size": 2,
        "unlabeled_batch_size": 2,
        "markups_threshold": 0.0,
        "network_def": {"channels": 8, "backbone": {"block_inplanes": [4, 8, 8, 8]}},
    },
}
ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # else every request for a sample and every training starts a process that scores; asked for, it scores all the same
    "MONAI_LABEL_AUTO_UPDATE_SCORING": "false",
}


def stock_app(folder: Path) -> Path:
    """The app ``monaibundle`` as it lies in MONAI Label's wheel."""
    command = [sys.executable, "-m", "monailabel.main", "apps", "--download", "--name", "monaibundle"]
    subprocess.run([*command, "--output", str(folder)], check=True, capture_output=True, text=True)
    return folder / "monaibundle"


def add_bundle(app: Path, name: str, weights: str | None = None, **settings: Any) -> Path:
    """What ``monai-ssl init`` makes, with small values."""
    bundle = copy_bundle(name, app / "model" / name)
    configure(bundle, **{**TINY[name], **settings})
    if weights is not None:
        write_first_model(bundle, weights)
    return bundle


def configure(bundle: Path, **settings: Any) -> None:
    """Change values of the train and the inference config; dictionaries are merged."""
    for path in (path for name in ("train", "inference") if (path := bundle / "configs" / f"{name}.yaml").is_file()):
        config = yaml.safe_load(path.read_text())
        _merge(config, {key: value for key, value in settings.items() if key in config})
        path.write_text(yaml.safe_dump(config, sort_keys=False))


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


class Server:
    """``monailabel start_server`` in a process group of its own."""

    def __init__(self, app: Path, studies: Path, models: list[str], **conf: str) -> None:
        self.models, self.conf = models, {"models": ",".join(models), "zoo_source": "local", **conf}
        self._start(app, studies)

    def command(self) -> list[str]:
        options = [word for name, value in self.conf.items() for word in ("--conf", name, value)]
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(self.app)]
        return [*command, "--studies", str(self.studies), "--host", "127.0.0.1", "--port", str(self.port), *options]

    def _start(self, app: Path, studies: Path) -> None:
        self.app, self.studies = app, studies
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = app.parent / f"server-{self.port}.log"
        environment = {**os.environ, **ENVIRONMENT}
        with open(self.log, "w") as stream:
            self.process = subprocess.Popen(
                self.command(), cwd=app.parent, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )

    def __enter__(self) -> Server:
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _wait(self, seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self.text()[-4000:]}")
            with contextlib.suppress(OSError):
                if self.request("GET", "/info/").status_code == 200:
                    return
            time.sleep(0.5)
        raise TimeoutError(f"the server does not answer:\n{self.text()[-4000:]}")

    def kill(self) -> None:
        """End the server and what it started, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def request(self, method: str, path: str, **kwargs: Any) -> Any:
        import requests

        return requests.request(method, self.url + path, timeout=300, **kwargs)

    def json(self, method: str, path: str, **kwargs: Any) -> Any:
        answer = self.request(method, path, **kwargs)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:2000]}\n{self.text()[-6000:]}"
        return answer.json()

    def put_label(self, image: str, file: Path) -> Any:
        with open(file, "rb") as stream:
            path = f"/datastore/label?image={image}&tag=final"
            return self.json("PUT", path, files={"label": (file.name, stream)})

    def infer(self, model: str, image: str, folder: Path) -> Path:
        """The file that the server answers with."""
        answer = self.request("POST", f"/infer/{model}?image={image}&output=image", data={"params": "{}"})
        assert answer.status_code == 200, f"{answer.status_code} {answer.text[:2000]}\n{self.text()[-6000:]}"
        name = re.search(r"filename=\"?([^\";]+)", answer.headers.get("content-disposition", ""))
        assert name, answer.headers
        file = folder / f"{model}_{image}{''.join(Path(name[1]).suffixes)}"
        file.write_bytes(answer.content)
        return file

    def start_training(self, model: str, epochs: int = 1, **params: Any) -> Any:
        params = {"max_epochs": epochs, "device": "cpu", **params}
        return self.json("POST", f"/train/{model}", json=params)

    def train(self, model: str, epochs: int = 1, **params: Any) -> Any:
        """Train to the end; what the server then says of it."""
        self.start_training(model, epochs, **params)
        return self.end_of_training()

    def end_of_training(self, seconds: float = 240) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            task = self.json("GET", "/train/")
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(0.5)
        raise TimeoutError(f"the training does not end:\n{self.text()[-6000:]}")

    def wait_for(self, text: str, seconds: float = 120) -> None:
        """Until the log has a line, counted from the last training on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if text in self.text().rpartition("COMMAND::")[2]:
                return
            time.sleep(0.2)
        raise TimeoutError(f"{text!r} is not in the log:\n{self.text()[-6000:]}")


class OwnServer(Server):
    """``monai-ssl label``."""

    def __init__(self, app: Path, studies: Path, *options: str) -> None:
        self.options = options
        self._start(app, studies)

    def command(self) -> list[str]:
        command = [sys.executable, "-m", "monai_ssl.cli", "label", "--studies", str(self.studies)]
        return [*command, "--app", str(self.app), "--port", str(self.port), *self.options]


def said(server: Server) -> str:
    """What the last task wrote."""
    return server.text().rpartition("COMMAND::")[2]


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_label(study: Path, path: Path, value: int = 1) -> Path:
    """A label map of a bright half."""
    image = nib.load(study)
    array = image.get_fdata()
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image((array > np.median(array)).astype(np.uint8) * value, image.affine), path)
    return path
