"""What is kept of Secrets: only referenced keys, only the newest news, and when something that was there went away."""

from __future__ import annotations

import base64

from aigateway_operator.kube.resources import JsonObject
from aigateway_operator.kube.secret_book import SecretBook, SecretNews, parse_secret

HELM = "helm.sh/release.v1"


def make_secret(name: str = "keys", kind: str = "Opaque", **values: str) -> JsonObject:
    """A Secret as the API server sends it."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"name": name}, "type": kind, "data": data}


def make_news(version: int, *keys: str, name: str = "keys", kind: str | None = "Opaque", **values: str) -> SecretNews:
    """News about a Secret that was looked at for `keys` and those of `values`."""
    looked = frozenset(keys) | values.keys()
    return SecretNews(name, version, looked, kind, {key: value.encode() for key, value in values.items()})


def make_book(*keys: str) -> SecretBook:
    """A book with one caller that needs these keys of Secret `keys`."""
    book = SecretBook()
    book.refer("main", {"keys": frozenset(keys)})
    return book


def test_unreferenced_keys_of_a_referenced_secret_are_not_kept() -> None:
    """Parsing keeps wanted keys alone, and dropping a reference drops its value."""
    book = make_book("a", "b")
    news = parse_secret(make_secret(a="1", b="2", c="other"), book.wanted("keys"), 5)
    assert dict(news.values) == {"a": b"1", "b": b"2"}
    book.learn(news, 0.0)
    book.refer("main", {"keys": frozenset({"b"})})
    assert dict(book.state("keys").values) == {"b": b"2"}
    book.refer("main", {})
    assert not book.state("keys").known
    assert book.state("keys").values == {}


def test_news_of_a_secret_that_nobody_references_is_not_kept() -> None:
    """A watch sees every Secret; only referenced ones leave a trace."""
    book = make_book("a")
    assert not book.learn(make_news(5, name="other", a="x"), 0.0)
    assert not book.state("other").known


def test_what_was_settled_is_looked_at_again_when_anything_changes() -> None:
    """Ten thousand Secrets are not gone through in each round, and none is overlooked for that."""
    book, wanted = make_book("a"), {"keys": frozenset({"a"})}
    for version in (5, 6):
        book.learn(make_news(version, a="1"), 0.0)
        assert book.unsettled(wanted, 0.0) == book.unsettled(wanted, 0.0) == []
        book.doubt(["keys"], 1.0)
        assert book.unsettled(wanted, 0.0) == ["keys"]
    book.learn(make_news(7, a="1"), 0.0)
    assert book.unsettled(wanted, 0.0) == []
    book.refer("main", {"keys": frozenset({"a", "b"})})
    assert book.unsettled(wanted, 0.0) == ["keys"]


def test_keys_of_several_callers_are_joined_and_parted() -> None:
    """What one caller no longer needs stays as long as another does."""
    book = make_book("a")
    book.refer("second", {"keys": frozenset({"b"})})
    book.learn(make_news(5, a="1", b="2"), 0.0)
    book.refer("main", {})
    assert dict(book.state("keys").values) == {"b": b"2"}


def test_older_news_does_not_overwrite_newer() -> None:
    """A read that was answered before a watch event but arrives after it is ignored."""
    book = make_book("a")
    book.learn(make_news(10, a="new"), 0.0)
    assert not book.learn(make_news(9, a="old"), 0.0)
    assert book.state("keys").values["a"] == b"new"
    book.learn(make_news(12, "a", kind=None), 0.0)
    assert not book.learn(make_news(11, a="between"), 0.0)
    assert not book.state("keys").exists


def test_only_changes_of_referenced_keys_are_told() -> None:
    """A confirmation is no change; a value, a key's presence, the type and the Secret's end are."""
    book = make_book("a", "b")
    assert not book.learn(make_news(1, "b", a="1"), 0.0), "the first news answers whoever asked"
    assert not book.learn(make_news(2, "b", a="1"), 0.0)
    assert book.learn(make_news(3, "b", a="2"), 0.0)
    assert book.learn(make_news(4, a="2", b="3"), 0.0)
    assert book.learn(make_news(5, "a", "b", kind=None), 0.0)
    assert book.learn(make_news(6, "a", "b", kind=HELM), 0.0)


def test_the_moment_when_a_key_vanished_is_kept_until_it_is_back() -> None:
    """gone_since is that of the key that went first, and only of keys that were there."""
    book = make_book("a", "b", "never")
    book.learn(make_news(1, "never", a="1", b="2"), 10.0)
    assert book.state("keys").gone_since is None
    book.learn(make_news(2, "never", "a", b="2"), 20.0)
    book.learn(make_news(3, "never", "a", "b", kind=None), 30.0)
    assert book.state("keys").gone_since == 20.0
    book.learn(make_news(4, "never", "b", a="1"), 40.0)
    assert book.state("keys").gone_since == 30.0
    book.learn(make_news(5, "never", a="1", b="2"), 50.0)
    assert book.state("keys").gone_since is None


def test_absence_from_a_complete_list_ends_only_what_is_older_than_the_list() -> None:
    """A Secret that was read after the list began is not taken for deleted."""
    book = SecretBook()
    book.refer("main", {name: frozenset({"a"}) for name in ("old", "fresh", "listed", "unread")})
    for name, version in (("old", 5), ("listed", 5), ("fresh", 9)):
        book.learn(make_news(version, name=name, a="1"), 0.0)
    assert book.absent(["listed"], 8, 1.0) == ["old"]
    assert not book.state("old").exists
    assert book.state("fresh").exists
    assert book.state("listed").exists
    assert not book.state("unread").known, "nobody has looked at it: the list may have passed it by before it was wanted"


def test_values_of_a_refused_type_are_never_decoded() -> None:
    """A token named as a backend key must not get anywhere."""
    news = parse_secret(make_secret(kind="kubernetes.io/service-account-token", token="t"), frozenset({"token"}), 1)
    assert news.values == {}
    book = make_book("token")
    book.learn(news, 0.0)
    state = book.state("keys")
    assert (state.known, state.exists, state.refused_type) == (True, True, "kubernetes.io/service-account-token")


def test_a_refused_secret_is_looked_at_again_after_a_while() -> None:
    """It is not watched, so its deletion would never be seen."""
    book = make_book("a")
    book.learn(make_news(1, "a", kind=HELM), 100.0)
    assert book.unsettled(["keys"], refused_before=99.0) == []
    assert book.unsettled(["keys"], refused_before=101.0) == ["keys"]


def test_what_could_not_be_read_keeps_its_values_but_counts_as_unknown() -> None:
    """A 403 is no reason to revoke what is live."""
    book = make_book("a")
    book.learn(make_news(1, a="1"), 0.0)
    book.refer("main", {"keys": frozenset({"a", "b"})})
    assert book.unsettled(["keys"], 0.0) == ["keys"]
    book.doubt(["keys"], 0.0)
    state = book.state("keys")
    assert not state.known
    assert dict(state.values) == {"a": b"1"}
    assert book.learn(make_news(2, "b", a="1"), 0.0), "that it is known again has to be told"


def test_values_are_not_in_any_repr() -> None:
    """Logs and errors show reprs."""
    book = make_book("a")
    news = make_news(1, a="hunter2")
    book.learn(news, 0.0)
    assert "hunter2" not in repr(news) + repr(book.state("keys"))
