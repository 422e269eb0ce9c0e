"""Vector stores: files are taken in by the clock, fail if unreadable, are searched, and expire."""

from typing import Any

import httpx
import pytest

from tests.simulator.resource import START_S, VERSION, Resource

SEARCHES = "2025-03-01-preview"


def upload(azure: Resource, name: str, content: bytes = b"alpha beta") -> str:
    files = {"file": (name, content, "text/plain")}
    target = "/openai/v1/files"
    answer = azure.http.post(target, files=files, data={"purpose": "assistants"})
    return str(answer.json()["id"])


def make_store(azure: Resource, *file_ids: str, **more: Any) -> str:
    body = {"file_ids": list(file_ids), **more}
    return str(azure.dated("POST", "/vector_stores", body).json()["id"])


def test_a_file_is_taken_in_as_time_passes(azure: Resource) -> None:
    file_id = upload(azure, "a.txt")
    store = azure.dated("POST", "/vector_stores", {"file_ids": [file_id], "name": "books"}).json()
    assert (store["name"], store["status"]) == ("books", "in_progress")
    assert store["file_counts"] == {
        "in_progress": 1,
        "completed": 0,
        "failed": 0,
        "cancelled": 0,
        "total": 1,
    }
    azure.advance(9)
    path = f"/vector_stores/{store['id']}"
    assert azure.dated("GET", path).json()["status"] == "in_progress"
    azure.advance(1)
    done = azure.dated("GET", path).json()
    assert (done["status"], done["file_counts"]["completed"]) == ("completed", 1)
    assert done["usage_bytes"] == 1034


def test_a_file_of_a_kind_that_cannot_be_searched_fails(azure: Resource) -> None:
    store = make_store(azure, upload(azure, "rows.csv"))
    azure.advance(10)
    (file,) = azure.dated("GET", f"/vector_stores/{store}/files").json()["data"]
    assert file["status"] == "failed"
    assert file["last_error"]["code"] == "unsupported_file"
    assert "[.csv]" in file["last_error"]["message"]
    counts = azure.dated("GET", f"/vector_stores/{store}").json()["file_counts"]
    assert (counts["failed"], counts["completed"]) == (1, 0)


def test_stores_are_listed_changed_and_deleted(azure: Resource) -> None:
    first, second = make_store(azure), make_store(azure)
    listed = azure.dated("GET", "/vector_stores").json()["data"]
    assert [row["id"] for row in listed] == [second, first]
    path = f"/vector_stores/{first}"
    changed = azure.dated("POST", path, {"name": "mine", "metadata": {"a": "b"}}).json()
    assert (changed["name"], changed["metadata"]) == ("mine", {"a": "b"})
    assert azure.dated("DELETE", path).json()["object"] == "vector_store.deleted"
    assert azure.dated("GET", path).status_code == 404


def test_files_are_added_labelled_and_taken_out(azure: Resource) -> None:
    root = f"/vector_stores/{make_store(azure)}/files"
    file_id = upload(azure, "a.md")
    body = {"file_id": file_id, "attributes": {"year": 2026, "draft": True}}
    added = azure.dated("POST", root, body).json()
    assert (added["status"], added["attributes"]["year"]) == ("in_progress", 2026)
    one = f"{root}/{file_id}"
    refused = azure.dated("POST", one, {"attributes": {}}, version=VERSION)
    assert refused.status_code == 404
    changed = azure.dated("POST", one, {"attributes": {"year": 2027}}, version=SEARCHES).json()
    assert changed["attributes"] == {"year": 2027}
    nested = azure.dated("POST", one, {"attributes": {"a": [1]}}, version=SEARCHES)
    assert nested.status_code == 400
    assert azure.dated("DELETE", one).json()["object"] == "vector_store.file.deleted"
    assert azure.dated("GET", one).status_code == 404
    assert azure.v1("GET", f"/files/{file_id}").status_code == 200


def test_the_best_match_is_found_first(azure: Resource) -> None:
    poor = upload(azure, "poor.txt", b"beta gamma")
    good = upload(azure, "good.txt", b"alpha beta")
    path = f"/vector_stores/{make_store(azure, poor, good, upload(azure, 'x.csv'))}"
    body = {"query": "Alpha beta"}
    assert azure.dated("POST", f"{path}/search", body, version=SEARCHES).json()["data"] == []
    azure.advance(10)
    found = azure.dated("POST", f"{path}/search", body, version=SEARCHES).json()
    assert [row["file_id"] for row in found["data"]] == [good, poor]
    assert [row["score"] for row in found["data"]] == [1.0, 0.5]
    one = azure.v1("POST", f"{path}/search", {"query": ["beta"], "max_num_results": 1}).json()
    assert (len(one["data"]), one["has_more"]) == (1, True)
    text = azure.v1("GET", f"{path}/files/{good}/content").json()
    assert text["data"] == [{"type": "text", "text": "alpha beta"}]


def test_a_batch_of_files_is_counted_apart_and_can_be_cancelled(azure: Resource) -> None:
    store = make_store(azure, upload(azure, "before.txt"))
    root = f"/vector_stores/{store}/file_batches"
    ids = [upload(azure, "a.txt"), upload(azure, "b.csv")]
    batch = azure.dated("POST", root, {"file_ids": ids}).json()
    assert (batch["status"], batch["file_counts"]["total"]) == ("in_progress", 2)
    azure.advance(10)
    done = azure.dated("GET", f"{root}/{batch['id']}").json()
    assert done["status"] == "completed"
    assert (done["file_counts"]["completed"], done["file_counts"]["failed"]) == (1, 1)
    failed = azure.dated("GET", f"{root}/{batch['id']}/files?filter=failed").json()["data"]
    assert [row["id"] for row in failed] == [ids[1]]
    later = azure.dated("POST", root, {"file_ids": [upload(azure, "c.txt")]}).json()
    cancelled = azure.dated("POST", f"{root}/{later['id']}/cancel").json()
    assert cancelled["status"] == "cancelled"
    azure.advance(10)
    assert azure.dated("GET", f"{root}/{later['id']}").json()["status"] == "cancelled"
    assert azure.dated("GET", f"/vector_stores/{store}").json()["file_counts"]["cancelled"] == 1


def test_a_store_expires_some_days_after_its_last_use(azure: Resource) -> None:
    expiry = {"anchor": "last_active_at", "days": 1}
    path = f"/vector_stores/{make_store(azure, expires_after=expiry)}"
    assert azure.dated("GET", path).json()["expires_at"] == START_S + 86_400
    azure.advance(86_399)
    assert azure.dated("GET", f"{path}/files").status_code == 200
    azure.advance(86_399)
    assert azure.dated("GET", path).json()["status"] == "completed"
    azure.advance(1)
    assert azure.dated("GET", path).json()["status"] == "expired"
    assert azure.dated("GET", f"{path}/files").status_code == 400


@pytest.mark.parametrize("place", ["/assistants", "/threads"])
def test_a_store_described_in_place_is_created(azure: Resource, place: str) -> None:
    file_id = upload(azure, "a.txt")
    model = {"model": "gpt-4o"} if place == "/assistants" else {}
    described = {"file_search": {"vector_stores": [{"file_ids": [file_id]}]}}
    made = azure.dated("POST", place, {**model, "tool_resources": described}).json()
    (store,) = made["tool_resources"]["file_search"]["vector_store_ids"]
    (file,) = azure.dated("GET", f"/vector_stores/{store}/files").json()["data"]
    assert file["id"] == file_id
    both = {"file_search": {"vector_store_ids": [store], "vector_stores": [{}]}}
    assert azure.dated("POST", place, {**model, "tool_resources": both}).status_code == 400
    gone = {"file_search": {"vector_store_ids": ["vs_none"]}}
    assert azure.dated("POST", place, {**model, "tool_resources": gone}).status_code == 404


def test_attachments_for_file_search_share_the_threads_own_store(azure: Resource) -> None:
    ids = [upload(azure, "a.txt"), upload(azure, "b.txt")]
    thread = azure.thread("hello")
    for file_id in ids:
        attachment = {"file_id": file_id, "tools": [{"type": "file_search"}]}
        body = {"role": "user", "content": "see", "attachments": [attachment]}
        answer: httpx.Response = azure.dated("POST", f"/threads/{thread}/messages", body)
        assert answer.status_code == 200
    resources = azure.dated("GET", f"/threads/{thread}").json()["tool_resources"]
    (store,) = resources["file_search"]["vector_store_ids"]
    shown = azure.dated("GET", f"/vector_stores/{store}").json()
    assert shown["file_counts"]["total"] == 2
    assert shown["expires_after"] == {"anchor": "last_active_at", "days": 7}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/vector_stores", {"file_ids": ["assistant-none"]}, 404),
        ("/vector_stores", {"expires_after": {"anchor": "created_at", "days": 1}}, 400),
        ("/vector_stores", {"expires_after": {"anchor": "last_active_at", "days": 366}}, 400),
        ("/vector_stores/{id}/files", {}, 400),
        ("/vector_stores/{id}/files", {"file_id": "assistant-none"}, 404),
        ("/vector_stores/{id}/files?filter=odd", None, 400),
        ("/vector_stores/{id}/file_batches", {"file_ids": []}, 400),
        ("/vector_stores/{id}/file_batches/vsfb_none", None, 404),
        ("/vector_stores/vs_none", None, 404),
        ("/vector_stores/{id}/search", {}, 400),
        ("/vector_stores/{id}/search", {"query": "a", "max_num_results": 51}, 400),
    ],
)
def test_what_cannot_be_is_refused(
    azure: Resource, path: str, body: dict[str, Any] | None, status: int
) -> None:
    target = path.replace("{id}", make_store(azure))
    method = "GET" if body is None else "POST"
    answer = azure.dated(method, target, body, version=SEARCHES)
    assert answer.status_code == status
    assert "message" in answer.json()["error"]
