"""The Hub's interface without the network: requests in, replies out, one small function a route.

Anybody may read a public repository; whoever shows the one token may read, create and write any. To strangers a private
repository looks as if it did not exist.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from typing import Any
from urllib.parse import parse_qs, unquote

from helpers.hub_repository import Files, Repository, UnknownRevisionError


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes

    def json(self) -> dict[str, Any]:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, content: Any, status: int = 200, **headers: str) -> Reply:
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json", **headers})


class HubError(Exception):
    """An answer other than success. `code` is the X-Error-Code from which the client chooses its exception."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str) -> None:
        super().__init__(message)
        headers |= {"X-Error-Message": message, "X-Error-Code": code}
        self.reply = Reply.json({"error": message}, status, **headers)


class Hub:
    """Repositories, the store of large files, and who may do what."""

    user = "tester"
    token = "hf_loopback"
    url = ""

    def __init__(self, lfs: tuple[str, ...] = ()) -> None:
        self.lfs = lfs
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}

    def answer(self, request: Request) -> Reply:
        method = "GET" if request.method == "HEAD" else request.method
        for verb, pattern, function in ROUTES:
            if verb == method and (match := pattern.fullmatch(request.path)):
                fields = {name: unquote(value) for name, value in match.groupdict().items()}
                try:
                    return function(self, request, **fields)
                except UnknownRevisionError as error:
                    return HubError(404, f"Invalid rev id: {error}", "RevisionNotFound").reply
                except HubError as error:
                    return error.reply
        return HubError(404, f"this server has no route for {request.method} {request.path}").reply

    def is_signed_in(self, request: Request) -> bool:
        shown = request.headers.get("Authorization")
        if shown not in (None, f"Bearer {self.token}"):
            raise HubError(401, "Invalid credentials in Authorization header")
        return shown is not None

    def require_user(self, request: Request) -> None:
        if not self.is_signed_in(request):
            raise HubError(401, "Invalid username or password.")

    def readable(self, request: Request, repo_id: str) -> Repository:
        signed_in = self.is_signed_in(request)
        repository = self.repositories.get(repo_id)
        if repository is None or (repository.private and not signed_in):
            raise HubError(404 if signed_in else 401, "Repository not found", "RepoNotFound")
        return repository

    def writable(self, request: Request, repo_id: str) -> Repository:
        repository = self.readable(request, repo_id)
        self.require_user(request)
        return repository


Route = Callable[..., Reply]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


def route(method: str, template: str) -> Callable[[Route], Route]:
    """Serve paths of the form `template`; `{repo_id}` is two segments, `{path}` any number, other fields one."""
    shapes = {"repo_id": "[^/]+/[^/]+", "path": ".+"}
    pattern = re.compile(re.sub(r"{(\w+)}", lambda name: f"(?P<{name[1]}>{shapes.get(name[1], '[^/]+')})", template))

    def register(function: Route) -> Route:
        ROUTES.append((method, pattern, function))
        return function

    return register


@route("GET", "/api/whoami-v2")
def whoami(hub: Hub, request: Request) -> Reply:
    hub.require_user(request)
    token = {"displayName": "test", "role": "write"}
    return Reply.json({"type": "user", "name": hub.user, "orgs": [], "auth": {"accessToken": token}})


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: Hub, request: Request) -> Reply:
    return Reply.json({"errors": [], "warnings": []})


@route("POST", "/api/repos/create")
def create_repository(hub: Hub, request: Request) -> Reply:
    hub.require_user(request)
    wanted = request.json()
    repo_id = f"{wanted.get('organization') or hub.user}/{wanted['name']}"
    exists = repo_id in hub.repositories
    if not exists:
        hub.repositories[repo_id] = Repository(repo_id, wanted.get("visibility") == "private", hub.lfs)
    return Reply.json({"url": f"{hub.url}/{repo_id}", "name": repo_id}, 409 if exists else 200)


@route("DELETE", "/api/repos/delete")
def delete_repository(hub: Hub, request: Request) -> Reply:
    wanted = request.json()
    repository = hub.writable(request, f"{wanted.get('organization') or hub.user}/{wanted['name']}")
    del hub.repositories[repository.repo_id]
    return Reply.json({})


@route("GET", "/api/models")
def list_models(hub: Hub, request: Request) -> Reply:
    signed_in = hub.is_signed_in(request)
    infos = [repository.info("main") for repository in hub.repositories.values() if signed_in or not repository.private]
    authors = request.query.get("author", [info["author"] for info in infos])
    return Reply.json([info for info in infos if info["author"] in authors])


@route("GET", "/api/models/{repo_id}")
@route("GET", "/api/models/{repo_id}/revision/{revision}")
def model_info(hub: Hub, request: Request, repo_id: str, revision: str = "main") -> Reply:
    return Reply.json(hub.readable(request, repo_id).info(revision))


@route("GET", "/api/models/{repo_id}/tree/{revision}")
@route("GET", "/api/models/{repo_id}/tree/{revision}/{path}")
def tree(hub: Hub, request: Request, repo_id: str, revision: str, path: str = "") -> Reply:
    prefix = f"{path}/" if path else ""
    recursive = request.query.get("recursive", ["false"])[0].lower() == "true"
    inside = [entry for entry in hub.readable(request, repo_id).tree(revision) if entry["path"].startswith(prefix)]
    return Reply.json([entry for entry in inside if recursive or "/" not in entry["path"].removeprefix(prefix)])


@route("POST", "/api/models/{repo_id}/paths-info/{revision}")
def paths_info(hub: Hub, request: Request, repo_id: str, revision: str) -> Reply:
    wanted = parse_qs(request.body.decode()).get("paths", [])
    return Reply.json([entry for entry in hub.readable(request, repo_id).tree(revision) if entry["path"] in wanted])


@route("GET", "/api/models/{repo_id}/commits/{revision}")
def commits(hub: Hub, request: Request, repo_id: str, revision: str) -> Reply:
    history = hub.readable(request, repo_id).history(revision)
    rest = {"message": "", "authors": [{"user": hub.user}]}
    return Reply.json([{"id": oid, "title": commit.title, "date": commit.date, **rest} for oid, commit in history])


@route("GET", "/{repo_id}/resolve/{revision}/{path}")
def resolve(hub: Hub, request: Request, repo_id: str, revision: str, path: str) -> Reply:
    repository = hub.readable(request, repo_id)
    headers = {"X-Repo-Commit": repository.resolve(revision)}
    data = repository.files(revision).get(path)
    if data is None:
        raise HubError(404, "Entry not found", "EntryNotFound", **headers)
    entry = repository.describe(path, data)
    headers |= {"ETag": f'"{entry["oid"]}"', "Accept-Ranges": "bytes"}
    if large := entry.get("lfs"):
        headers |= {"X-Linked-Etag": f'"{large["oid"]}"', "X-Linked-Size": str(large["size"])}
    return byte_range(data, request.headers.get("Range", ""), headers)


def byte_range(data: bytes, wanted: str, headers: dict[str, str]) -> Reply:
    """The whole of `data`, or the part that a header `Range: bytes=first-[last]` asks for."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if match is None:
        return Reply(200, data, headers)
    first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
    if first > last:
        raise HubError(416, "Range not satisfiable", **{"Content-Range": f"bytes */{len(data)}"})
    return Reply(206, data[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"})


@route("GET", "/api/models/{repo_id}/refs")
def refs(hub: Hub, request: Request, repo_id: str) -> Reply:
    def listing(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in names.items()]

    repository = hub.readable(request, repo_id)
    branches, tags = listing("heads", repository.branches), listing("tags", repository.tags)
    return Reply.json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


@route("POST", "/api/models/{repo_id}/branch/{name}")
def create_branch(hub: Hub, request: Request, repo_id: str, name: str) -> Reply:
    repository = hub.writable(request, repo_id)
    return add_name(repository.branches, name, repository.resolve(request.json().get("startingPoint", "main")))


@route("POST", "/api/models/{repo_id}/tag/{revision}")
def create_tag(hub: Hub, request: Request, repo_id: str, revision: str) -> Reply:
    repository = hub.writable(request, repo_id)
    return add_name(repository.tags, request.json()["tag"], repository.resolve(revision))


def add_name(names: dict[str, str], name: str, oid: str) -> Reply:
    if name in names:
        raise HubError(409, f"Reference already exists: {name}")
    names[name] = oid
    return Reply.json({})


@route("DELETE", "/api/models/{repo_id}/{kind}/{name}")
def delete_name(hub: Hub, request: Request, repo_id: str, kind: str, name: str) -> Reply:
    repository = hub.writable(request, repo_id)
    names = {"branch": repository.branches, "tag": repository.tags}[kind]
    if names.pop(name, None) is None:
        raise UnknownRevisionError(name)
    return Reply.json({})


@route("POST", "/api/models/{repo_id}/preupload/{revision}")
def preupload(hub: Hub, request: Request, repo_id: str, revision: str) -> Reply:
    """How each file shall travel, and what the repository holds under its name, lest the same be sent again."""
    repository = hub.writable(request, repo_id)
    present = repository.files(revision)

    def plan(path: str) -> dict[str, Any]:
        entry = repository.describe(path, present[path]) if path in present else {}
        mode = "lfs" if path.endswith(repository.lfs) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": entry.get("lfs", entry).get("oid")}

    return Reply.json({"files": [plan(file["path"]) for file in request.json()["files"]]})


@route("POST", "/{repo_id}.git/info/lfs/objects/batch")
def lfs_batch(hub: Hub, request: Request, repo_id: str) -> Reply:
    hub.writable(request, repo_id)

    def plan(oid: str, size: int) -> dict[str, Any]:
        actions = {"upload": {"href": f"{hub.url}/lfs/{oid}"}, "verify": {"href": f"{hub.url}/lfs/{oid}/verify"}}
        return {"oid": oid, "size": size} | ({} if oid in hub.large_files else {"actions": actions})

    objects = [plan(wanted["oid"], wanted["size"]) for wanted in request.json()["objects"]]
    return Reply.json({"transfer": "basic", "objects": objects})


@route("PUT", "/lfs/{oid}")
def lfs_upload(hub: Hub, request: Request, oid: str) -> Reply:
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise HubError(400, f"the body does not hash to {oid}")
    hub.large_files[oid] = request.body
    return Reply()


@route("POST", "/lfs/{oid}/verify")
def lfs_verify(hub: Hub, request: Request, oid: str) -> Reply:
    return Reply(200 if oid in hub.large_files else 404)


@route("POST", "/api/models/{repo_id}/commit/{branch}")
def commit(hub: Hub, request: Request, repo_id: str, branch: str) -> Reply:
    """The body is one JSON object a line: a header, then the operations."""
    repository = hub.writable(request, repo_id)
    if branch not in repository.branches:
        raise UnknownRevisionError(branch)
    head = repository.branches[branch]
    header, *operations = map(json.loads, request.body.splitlines())
    if header["value"].get("parentCommit", head) != head:
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(repository.files(head))
    for operation in operations:
        carry_out(operation["key"], operation["value"], files, hub.large_files)
    oid = repository.commit(branch, files, header["value"]["summary"])
    return Reply.json({"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{repo_id}/commit/{oid}"})


def carry_out(key: str, value: dict[str, Any], files: Files, large_files: dict[str, bytes]) -> None:
    """One operation of a commit, done to `files`."""
    path = value["path"].rstrip("/")
    if key == "file":
        files[path] = base64.b64decode(value["content"])
    elif key == "lfsFile" and value["oid"] in large_files:
        files[path] = large_files[value["oid"]]
    elif key == "deletedFile" and path in files:
        del files[path]
    elif key == "deletedFolder":
        for name in [name for name in files if name.startswith(f"{path}/")]:
            del files[name]
    else:
        raise HubError(400, f"cannot carry out {key} on {path}: the operation, the file or its upload is unknown")
