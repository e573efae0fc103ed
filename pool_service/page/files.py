"""The files of the page, and the headers with which they are served."""

from http import HTTPStatus
from importlib.resources import files

from pool_service.access.principal import Scope
from pool_service.http.exchange import Handler, Request, Response, Route, Routes

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

SECURITY = (
    # Nothing but the page's own files: no inline code, no other host, and no frame around it.
    (
        "Content-Security-Policy",
        (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
)


def add_files(routes: Routes) -> None:
    """Add a route for each file of the page; `/` is its index."""
    for file in files("pool_service.page").joinpath("files").iterdir():
        suffix = "." + file.name.rpartition(".")[2]
        response = Response(HTTPStatus.OK, file.read_bytes(), TYPES[suffix], SECURITY)
        path = "/" if file.name == "index.html" else f"/{file.name}"
        routes.add("GET", path, Route(_answering(response), Scope.READ))


def _answering(response: Response) -> Handler:
    async def answer(_request: Request) -> Response:
        return response

    return answer
