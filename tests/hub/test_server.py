"""The Hub on loopback as `huggingface_hub` sees it: what is pushed comes back, at every revision, to those allowed."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError

import huggingface_hub.constants
import numpy as np
import pytest
from helpers.hub_server import HubServer
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from safetensors.numpy import load_file, save_file

REPO = "tester/digits"
WEIGHTS = "vae/model.safetensors"
HELLO_BLOB = "ce013625030ba8dba906f756967f9e9ca394464a"  # `printf 'hello\n' | git hash-object --stdin`


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as hub:
        yield hub


@pytest.fixture
def lfs_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with HubServer(lfs=(".safetensors",)) as hub:
        yield hub


@pytest.fixture(params=["hub", "lfs_hub"])
def any_hub(request: pytest.FixtureRequest) -> HubServer:
    return request.getfixturevalue(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "vae").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Digits\n")
    (folder / "hello.txt").write_text("hello\n")
    save_file({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}, folder / WEIGHTS)
    return folder


def client(hub: HubServer, token: str | bool = HubServer.token) -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def pushed(hub: HubServer, folder: Path, private: bool = False) -> HfApi:
    api = client(hub)
    api.create_repo(REPO, private=private)
    api.upload_folder(repo_id=REPO, folder_path=folder, commit_message="first")
    return api


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def test_what_was_pushed_comes_back_at_every_revision(any_hub: HubServer, folder: Path, tmp_path: Path) -> None:
    api = pushed(any_hub, folder)
    first = api.model_info(REPO).sha
    api.create_tag(REPO, tag="v1.0")
    second = api.create_commit(REPO, [add("hello.txt", b"bye\n")], commit_message="second").oid

    def hello(revision: str | None) -> str:
        return Path(api.hf_hub_download(REPO, "hello.txt", revision=revision, cache_dir=tmp_path / "cache")).read_text()

    assert [hello(revision) for revision in (None, "main", second)] == ["bye\n"] * 3
    assert [hello(revision) for revision in ("v1.0", first, "refs/tags/v1.0")] == ["hello\n"] * 3
    assert [(commit.commit_id, commit.title) for commit in api.list_repo_commits(REPO)][:2] == [
        (second, "second"),
        (first, "first"),
    ]
    snapshot = Path(api.snapshot_download(REPO, revision=first, cache_dir=tmp_path / "cache"))
    np.testing.assert_array_equal(load_file(snapshot / WEIGHTS)["weight"], [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(RevisionNotFoundError):
        hello("v2.0")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download(REPO, "absent.txt", cache_dir=tmp_path / "cache")


def test_listings_name_files_as_git_does(any_hub: HubServer, folder: Path) -> None:
    api = pushed(any_hub, folder)
    assert sorted(api.list_repo_files(REPO)) == [".gitattributes", "README.md", "hello.txt", WEIGHTS]
    assert [entry.path for entry in api.list_repo_tree(REPO)] == [".gitattributes", "README.md", "hello.txt", "vae"]
    assert [entry.path for entry in api.list_repo_tree(REPO, "vae")] == [WEIGHTS]
    hello, weights = api.get_paths_info(REPO, ["hello.txt", WEIGHTS, "absent"])
    assert isinstance(hello, RepoFile)
    assert isinstance(weights, RepoFile)
    assert (hello.blob_id, hello.size, hello.lfs) == (HELLO_BLOB, 6, None)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert (weights.lfs.sha256 if weights.lfs else None) == (digest if any_hub.lfs else None)
    assert set(any_hub.large_files) == ({digest} if any_hub.lfs else set())


def test_pushing_the_same_again_sends_nothing(any_hub: HubServer, folder: Path) -> None:
    api = pushed(any_hub, folder)
    before = api.model_info(REPO).sha
    any_hub.requests.clear()
    assert api.upload_folder(repo_id=REPO, folder_path=folder).oid == before
    assert not [path for method, path in any_hub.requests if method == "PUT" or "/commit/" in path]


def test_a_commit_is_named_by_its_content(folder: Path) -> None:
    ids = []
    for _ in range(2):
        with HubServer() as hub:
            ids.append(pushed(hub, folder).model_info(REPO).sha)
    assert ids[0] == ids[1]
    with HubServer() as hub:
        (folder / "hello.txt").write_text("bye\n")
        assert pushed(hub, folder).model_info(REPO).sha != ids[0]


def test_branches_and_tags(hub: HubServer, folder: Path) -> None:
    api = pushed(hub, folder)
    first = api.model_info(REPO).sha
    api.create_branch(REPO, branch="try/one")
    api.create_tag(REPO, tag="v1", revision="try/one")
    on_branch = api.create_commit(REPO, [add("new.txt", b"")], commit_message="new", revision="try/one").oid
    refs = api.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": first, "try/one": on_branch}
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": first}
    assert api.file_exists(REPO, "new.txt", revision="try/one")
    assert not api.file_exists(REPO, "new.txt")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(REPO, tag="v1")
    api.delete_tag(REPO, tag="v1")
    api.delete_branch(REPO, branch="try/one")
    assert [ref.name for ref in api.list_repo_refs(REPO).branches] == ["main"]
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(REPO, tag="v1")


def test_a_private_repository_is_hidden_from_strangers(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    api, stranger = pushed(hub, folder, private=True), client(hub, token=False)
    with pytest.raises(RepositoryNotFoundError):
        stranger.model_info(REPO)
    with pytest.raises(RepositoryNotFoundError):
        stranger.hf_hub_download(REPO, "hello.txt", cache_dir=tmp_path / "cache")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        client(hub, token="hf_wrong").model_info(REPO)
    assert list(stranger.list_models(author="tester")) == []
    assert [model.id for model in api.list_models(author="tester")] == [REPO]
    assert Path(api.hf_hub_download(REPO, "hello.txt", cache_dir=tmp_path / "cache")).read_text() == "hello\n"


def test_strangers_read_public_repositories_and_write_none(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    api, stranger = pushed(hub, folder), client(hub, token=False)
    assert Path(stranger.hf_hub_download(REPO, "hello.txt", cache_dir=tmp_path / "cache")).read_text() == "hello\n"
    with pytest.raises(HfHubHTTPError, match="401"):
        stranger.create_commit(REPO, [add("hello.txt", b"mine")], commit_message="mine")
    with pytest.raises(HfHubHTTPError, match="401"):
        stranger.delete_repo(REPO)
    assert hub.repositories[REPO].files("main")["hello.txt"] == b"hello\n"
    assert api.whoami()["name"] == "tester"


def test_deletion(hub: HubServer, folder: Path) -> None:
    api = pushed(hub, folder)
    operations = [CommitOperationDelete("hello.txt"), CommitOperationDelete("vae/")]
    api.create_commit(REPO, operations, commit_message="less")
    assert api.list_repo_files(REPO) == [".gitattributes", "README.md"]
    api.delete_repo(REPO)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(REPO)
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo(REPO)


def test_creating_twice_is_a_conflict_unless_allowed(hub: HubServer, folder: Path) -> None:
    api = pushed(hub, folder)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(REPO)
    api.create_repo(REPO, exist_ok=True)
    assert "hello.txt" in hub.repositories[REPO].files("main")


def test_of_many_commits_on_one_parent_one_wins(hub: HubServer) -> None:
    api = client(hub)
    api.create_repo(REPO)
    parent = api.model_info(REPO).sha

    def push(number: int) -> str:
        try:
            return api.create_commit(
                REPO, [add(f"{number}.txt", b"x")], commit_message=f"{number}", parent_commit=parent
            ).oid
        except HfHubHTTPError as error:
            return str(error.response.status_code)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(push, range(4)))
    assert outcomes.count("412") == 3
    assert api.model_info(REPO).sha in outcomes
    assert len(hub.repositories[REPO].files("main")) == 2


@pytest.mark.slow
def test_a_broken_download_is_resumed(hub: HubServer, tmp_path: Path) -> None:
    api = client(hub)
    api.create_repo(REPO)
    content = np.random.default_rng(0).bytes(100_000)
    api.upload_file(path_or_fileobj=content, path_in_repo="big.bin", repo_id=REPO)
    hub.requests.clear()
    hub.cut_next("big.bin", keep=40_000)
    assert Path(api.hf_hub_download(REPO, "big.bin", cache_dir=tmp_path)).read_bytes() == content
    assert [method for method, path in hub.requests if "big.bin" in path] == ["HEAD", "GET", "GET"]


def test_byte_ranges(hub: HubServer, folder: Path) -> None:
    pushed(hub, folder)

    def fetch(wanted: str) -> tuple[int, str, bytes]:
        url = f"{hub.url}/{REPO}/resolve/main/hello.txt"
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Range": wanted})) as reply:
            return reply.status, reply.headers["Content-Range"], reply.read()

    assert fetch("bytes=1-3") == (206, "bytes 1-3/6", b"ell")
    assert fetch("bytes=4-") == (206, "bytes 4-5/6", b"o\n")
    with pytest.raises(HTTPError, match="416"):
        fetch("bytes=6-")


def test_a_large_file_whose_content_was_never_sent_is_refused(lfs_hub: HubServer) -> None:
    api = client(lfs_hub)
    api.create_repo(REPO)
    operation = add("model.safetensors", b"weights")
    api.preupload_lfs_files(REPO, [operation])
    lfs_hub.large_files.clear()
    with pytest.raises(BadRequestError, match=r"lfsFile on model\.safetensors"):
        api.create_commit(REPO, [operation], commit_message="a pointer to nothing")
    corrupt = urllib.request.Request(f"{lfs_hub.url}/lfs/{hashlib.sha256(b'a').hexdigest()}", data=b"b", method="PUT")
    with pytest.raises(HTTPError, match="400"):
        urllib.request.urlopen(corrupt)
    assert list(lfs_hub.repositories[REPO].files("main")) == [".gitattributes"]


def test_an_injected_issue_strikes_once(hub: HubServer, folder: Path) -> None:
    api = pushed(hub, folder)
    hub.fail_next(f"/api/models/{REPO}", 500)
    assert api.whoami()["name"] == "tester"
    with pytest.raises(HfHubHTTPError, match="500"):
        api.model_info(REPO)
    assert api.model_info(REPO).id == REPO
    assert hub.requests[-2:] == [("GET", f"/api/models/{REPO}")] * 2


def test_a_stopped_hub_is_gone(folder: Path) -> None:
    with HubServer() as hub:
        api = pushed(hub, folder)
    with pytest.raises(Exception, match="refused"):
        api.model_info(REPO)


def test_the_environment_of_a_process(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SOMETHING_ELSE", "kept")
    environment = hub.environment(tmp_path)
    assert not {"HF_HUB_OFFLINE", "HF_HUB_CACHE", "TRANSFORMERS_OFFLINE"} & environment.keys()
    assert (environment["HF_ENDPOINT"], environment["HF_HOME"]) == (hub.url, str(tmp_path))
    assert environment["SOMETHING_ELSE"] == "kept"
    assert hub.url.startswith("http://127.0.0.1:")
