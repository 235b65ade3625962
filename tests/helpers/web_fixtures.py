"""Fixtures of the browser's side; each test module that imports them has a site of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from web_servers import WebSite, client_of, make_web_site


@pytest.fixture(scope="module", name="site")
def site_fixture(processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebSite]:
    """A site with a worker."""
    made = make_web_site(tmp_path_factory.mktemp("site"))
    with made.worker():
        made.engine.close()
        yield made


@pytest.fixture(name="client")
def client_fixture(site: WebSite) -> Iterator[FlaskClient]:
    with client_of(site) as made:
        yield made
