"""Clients that were written for other servers, each as its own documentation uses it.

`python python_clients.py NAME URL` posts to URL, and prints what the caller gets as JSON:
{"result": …}, or {"failed": …}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
import requests
from azure.core import PipelineClient
from azure.core.pipeline.policies import RedirectPolicy, RequestIdPolicy
from azure.core.polling import LROPoller
from azure.core.polling.base_polling import LocationPolling, LROBasePolling
from azure.core.rest import HttpRequest
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

PREFER = {"Prefer": "respond-async"}


def azure_core(url: str, algorithms: list[Any] | None = None) -> Any:
    """Azure's SDKs for Python: a poller that chooses an algorithm by the headers."""
    client: PipelineClient[Any, Any] = PipelineClient(
        url.rpartition("/")[0], policies=[RequestIdPolicy(), RedirectPolicy()]
    )
    request = HttpRequest("POST", url, headers=PREFER)
    initial = client._pipeline.run(request)
    assert initial.http_response.status_code == 202
    polling: LROBasePolling[Any, Any, Any] = LROBasePolling(timeout=1, lro_algorithms=algorithms)
    poller: Any = LROPoller(client, initial, lambda r: json.loads(r.http_response.text()), polling)
    return poller.result()


def azure_core_location(url: str) -> Any:
    return azure_core(url, [LocationPolling()])


def urllib3_retry(url: str) -> Any:
    """`Retry` with 202 among the statuses to repeat, here as an adapter of requests."""
    with requests.Session() as session:
        retry = Retry(total=20, status_forcelist=[202], respect_retry_after_header=True)
        session.mount("http://", HTTPAdapter(max_retries=retry))
        started = requests.post(url, headers=PREFER)
        found = session.get(started.headers["Location"])
        found.raise_for_status()
        return found.json()


def requests_loop(url: str) -> Any:
    response = requests.post(url, headers=PREFER)
    location = response.headers["Location"]
    while response.status_code == 202:
        time.sleep(int(response.headers["Retry-After"]))
        response = requests.get(location)
    response.raise_for_status()
    return response.json()


def httpx_loop(url: str) -> Any:
    with httpx.Client(follow_redirects=True) as client:
        response = client.post(url, headers=PREFER)
        location = response.headers["Content-Location"]
        while response.status_code == 202:
            time.sleep(int(response.headers["Retry-After"]))
            response = client.get(location)
        response.raise_for_status()
        return response.json()


def httpx_without_redirects(url: str) -> Any:
    """httpx follows nothing of itself: its user does, once the status is no longer 202."""
    response = httpx.post(url, headers=PREFER)
    location = response.headers["Location"]
    while response.status_code == 202:
        time.sleep(int(response.headers["Retry-After"]))
        response = httpx.get(location)
    assert response.next_request is not None
    with httpx.Client() as client:
        response = client.send(response.next_request)
    response.raise_for_status()
    return response.json()


CLIENTS: dict[str, Callable[[str], Any]] = {
    function.__name__: function
    for function in (
        *(azure_core, azure_core_location, urllib3_retry),
        *(requests_loop, httpx_loop, httpx_without_redirects),
    )
}


if __name__ == "__main__":
    name, url = sys.argv[1:]
    try:
        print(json.dumps({"result": CLIENTS[name](url)}))
    except Exception as error:
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"}))
