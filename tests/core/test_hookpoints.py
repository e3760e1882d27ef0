"""How each kind of hook is called, with its deadline, and what becomes of a fault."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from herdgate import hookpoints
from herdgate.access import Action, Allow, Deny, Identity, Refusal, Resource
from herdgate.app import CannotStart
from herdgate.backend import ModelEntry
from herdgate.exchange import UpstreamRequest
from herdgate.failure import Skip, TryNext
from herdgate.faults import Ledger, PluginFault
from herdgate.hookpoints import Chain, Contexts, First, FirstAsync, Gather, Guard, MaskDenial, Notify
from herdgate.point import Impl, Point
from herdgate.scope import Scope
from herdgate.tasks import Tasks

ALICE = Identity("alice")
BOB = Identity("bob")


def impl(call: Callable[..., Any], plugin: str = "p", **options: bool) -> Impl:
    return Impl(plugin, call, **options)


def later(answer: object) -> Callable[..., Any]:
    """An async implementation that has to wait a moment for its answer."""

    async def call(*args: object) -> object:
        await asyncio.sleep(0)
        return answer

    return call


def now(answer: object) -> Callable[..., Any]:
    def call(*args: object) -> object:
        return answer

    return call


def raising(error: BaseException) -> Callable[..., Any]:
    def call(*args: object) -> object:
        raise error

    return call


def raising_later(error: BaseException) -> Callable[..., Any]:
    async def call(*args: object) -> object:
        await asyncio.sleep(0)
        raise error

    return call


async def never(*args: object) -> object:
    return await asyncio.Event().wait()


def hurry(point: Point) -> None:
    """Give this point a deadline that a test can wait for."""
    point.info = replace(point.info, deadline=0.02)


# first


@pytest.mark.parametrize("kind", [now, later])
async def test_the_first_answer_counts_and_nobody_else_is_asked(kind: Callable[[object], Callable[..., Any]]) -> None:
    asked: list[str] = []

    def third(*args: object) -> Identity:
        asked.append("third")
        return BOB

    point = FirstAsync[[int, int], Identity](
        "authenticate", [impl(kind(None)), impl(kind(ALICE)), impl(third)], Ledger()
    )
    assert await point(1, 2) is ALICE
    assert asked == []


async def test_without_any_answer_it_is_none() -> None:
    point = FirstAsync[[int, int], Identity]("authenticate", [impl(now(None)), impl(later(None))], Ledger())
    assert await point(1, 2) is None
    assert bool(point)
    assert not FirstAsync[[int, int], Identity]("authenticate", [], Ledger())


async def test_a_plain_function_may_return_an_awaitable() -> None:
    point = FirstAsync[[int, int], Identity]("authenticate", [impl(now(later(ALICE)()))], Ledger())
    assert await point(1, 2) is ALICE


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (raising(KeyError("x")), "KeyError: 'x'"),
        (raising_later(KeyError("x")), "KeyError: 'x'"),
        (now("alice"), "TypeError: returned str, but authenticate may return Identity, Rejected, Refusal or None"),
        (later(True), "TypeError: returned bool, but authenticate may return Identity, Rejected, Refusal or None"),
        (never, "no answer within 0.02 s"),
        (raising_later(TimeoutError("of its own")), "TimeoutError: of its own"),
    ],
)
async def test_a_fault_is_pinned_on_its_plugin_counted_and_logged(
    call: Callable[..., Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger()
    point = FirstAsync[[int, int], Identity]("authenticate", [impl(now(None), "good"), impl(call, "bad")], ledger)
    hurry(point)
    with caplog.at_level(logging.ERROR), pytest.raises(PluginFault) as caught:
        await point(1, 2)
    assert str(caught.value) == f"plugin bad failed in authenticate: {why}"
    assert (caught.value.plugin, caught.value.hook, caught.value.why) == ("bad", "authenticate", why)
    assert ledger.faults == {("bad", "authenticate"): 1}
    assert "plugin bad failed in authenticate" in caplog.text
    assert "Traceback" in caplog.text


async def test_an_answer_that_comes_after_the_deadline_is_a_fault() -> None:
    async def deaf(*args: object) -> Identity:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return ALICE

    ledger = Ledger()
    point = FirstAsync[[int, int], Identity]("authenticate", [impl(deaf, "deaf")], ledger)
    hurry(point)
    with pytest.raises(PluginFault, match="no answer within"):
        await point(1, 2)
    assert ledger.faults == {("deaf", "authenticate"): 1}


async def test_what_is_entered_or_left_after_the_deadline_is_a_fault_and_left_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[str] = []

    @asynccontextmanager
    async def deaf(*args: object) -> AsyncIterator[None]:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        yield
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        lines.append("left")

    monkeypatch.setattr(hookpoints, "LEAVE_DEADLINE", 0.02)
    ledger = Ledger()
    point = Contexts("admit", [impl(deaf, "deaf")], ledger)
    hurry(point)
    async with Scope() as stack:
        with pytest.raises(PluginFault, match="not entered within"):
            await point.enter(stack, 1, 2)
    assert lines == ["left"]
    assert ledger.faults == {("deaf", "admit"): 2}


async def test_after_a_fault_no_further_plugin_is_asked() -> None:
    def second(*args: object) -> Identity:
        raise AssertionError("asked after a fault")

    point = FirstAsync[[int, int], Identity]("authenticate", [impl(raising(KeyError())), impl(second)], Ledger())
    with pytest.raises(PluginFault, match="KeyError"):
        await point(1, 2)


async def test_the_deadline_is_one_for_all_plugins_of_a_phase() -> None:
    async def half(*args: object) -> None:
        await asyncio.sleep(0.03)

    point = FirstAsync[[int, int], Identity]("authenticate", [impl(half)] * 3, Ledger())
    point.info = replace(point.info, deadline=0.05)
    with pytest.raises(PluginFault, match="no answer within"):
        await point(1, 2)


@pytest.mark.parametrize("call", [raising_later(asyncio.CancelledError()), raising(asyncio.CancelledError())])
async def test_that_the_client_left_is_no_fault(call: Callable[..., Any]) -> None:
    ledger = Ledger()
    point = FirstAsync[[int, int], Identity]("authenticate", [impl(call)], ledger)
    with pytest.raises(asyncio.CancelledError):
        await point(1, 2)
    assert not ledger.faults


@pytest.mark.parametrize("call", [raising(ValueError("status 500")), raising_later(ValueError("status 500"))])
async def test_what_a_hook_may_raise_is_no_fault(call: Callable[..., Any]) -> None:
    ledger = Ledger()
    with pytest.raises(ValueError, match="status 500"):
        await FirstAsync[[int, int], list[ModelEntry]]("list_models", [impl(call)], ledger)(1, 2)
    assert not ledger.faults


@pytest.mark.parametrize("stray", ["llama3", None, 0, {}])
async def test_a_list_holds_what_the_hook_lists(stray: object) -> None:
    good = ModelEntry.from_tags({"name": "llama3"})
    point = FirstAsync[[int, int], list[object]]("list_models", [impl(now([good, stray]))], Ledger())
    with pytest.raises(PluginFault, match=f"returned {type(stray).__name__} among its ModelEntry objects"):
        await point(1, 2)


def test_a_sync_first_works_alike() -> None:
    point = First[[int, int, int], TryNext]("judge_failure", [impl(now(None)), impl(now(TryNext()))], Ledger())
    assert point(1, 2, 3) == TryNext()
    assert First[[int], TryNext]("judge_failure", [], Ledger())(1) is None
    ledger = Ledger()
    with pytest.raises(PluginFault, match="returned bool"):
        First[[int], TryNext]("judge_failure", [impl(now(True))], ledger)(1)
    assert ledger.faults == {("p", "judge_failure"): 1}


def test_the_reason_of_a_denial_reaches_only_who_declares_to_disclose_it() -> None:
    heard: list[tuple[str, str | None]] = []

    def listen(name: str) -> Callable[..., None]:
        return lambda _exchange, _family, reason: heard.append((name, reason))

    impls = [impl(listen("discreet")), impl(listen("chatty"), discloses=True)]
    assert MaskDenial("mask_denial", impls, Ledger())(1, 2, "hidden") is None
    assert heard == [("discreet", None), ("chatty", "hidden")]


# chain


def plus(text: str) -> Callable[..., Any]:
    def call(before: object, request: UpstreamRequest) -> UpstreamRequest:
        return request.with_path(request.path + text)

    return call


def plus_later(text: str) -> Callable[..., Any]:
    async def call(before: object, request: UpstreamRequest) -> UpstreamRequest:
        await asyncio.sleep(0)
        return request.with_path(request.path + text)

    return call


REQUEST = UpstreamRequest("POST", "/", (), b"")


async def test_each_plugin_of_a_chain_gets_what_the_one_before_left() -> None:
    impls = [impl(plus("a")), impl(now(None)), impl(plus_later("b")), impl(later(None)), impl(plus("c"))]
    assert (await Chain[UpstreamRequest]("prepare_upstream", impls, Ledger())(0, REQUEST)).path == "/abc"


async def test_a_chain_without_plugins_changes_nothing() -> None:
    assert await Chain[UpstreamRequest]("prepare_upstream", [], Ledger())(0, REQUEST) is REQUEST


@pytest.mark.parametrize("call", [raising(KeyError()), raising_later(KeyError()), now("x"), later("x"), never])
async def test_a_fault_breaks_a_chain(call: Callable[..., Any]) -> None:
    ledger = Ledger()
    point = Chain[UpstreamRequest]("prepare_upstream", [impl(plus("a")), impl(call), impl(plus("c"))], ledger)
    hurry(point)
    with pytest.raises(PluginFault):
        await point(0, REQUEST)
    assert ledger.faults == {("p", "prepare_upstream"): 1}


@pytest.mark.parametrize("call", [raising(KeyError()), raising_later(KeyError()), now("x"), later("x"), never])
async def test_an_advisory_plugin_that_fails_is_left_out_and_counted(call: Callable[..., Any]) -> None:
    ledger = Ledger()
    chain = [impl(plus("a")), impl(call, "adviser", advisory=True), impl(plus("c"))]
    point = Chain[UpstreamRequest]("prepare_upstream", chain, ledger)
    hurry(point)
    assert (await point(0, REQUEST)).path == "/ac"
    assert ledger.faults == {("adviser", "prepare_upstream"): 1}


def refuse(given: UpstreamRequest, returned: UpstreamRequest) -> UpstreamRequest:
    raise ValueError("may not become that")


async def test_a_chain_checks_what_may_become_what() -> None:
    point = Chain[UpstreamRequest]("prepare_upstream", [impl(plus("a"))], Ledger(), check=refuse)
    with pytest.raises(PluginFault, match="ValueError: may not become that"):
        await point(0, REQUEST)
    advisory = Chain[UpstreamRequest]("prepare_upstream", [impl(plus("a"), advisory=True)], Ledger(), check=refuse)
    assert await advisory(0, REQUEST) is REQUEST


def test_a_sync_chain_works_alike() -> None:
    entries = [ModelEntry.from_tags({"name": name}) for name in ("a", "b", "c")]
    impls = [impl(lambda _, listed: listed[1:]), impl(now(None)), impl(lambda _, listed: listed[:1])]
    assert Chain[list[ModelEntry]]("shape_catalogue", impls, Ledger()).sync(0, entries) == entries[1:2]
    with pytest.raises(PluginFault, match="returned str"):
        Chain[list[ModelEntry]]("shape_catalogue", [impl(now("abc"))], Ledger()).sync(0, entries)


# guard

RESOURCES = (Resource(), Resource())


async def verdicts(*impls: Impl, ledger: Ledger | None = None) -> list[Allow | Deny]:
    point = Guard("authorise", impls, ledger or Ledger())
    hurry(point)
    return await point(ALICE, Action.USE, RESOURCES)


async def test_every_plugin_is_asked_and_any_deny_wins() -> None:
    said = await verdicts(
        impl(now(Allow("all")), "a"), impl(later([Deny("this one"), None]), "b"), impl(now(None), "c")
    )
    assert said == [Deny("b: this one"), Allow("a: all")]


async def test_without_an_allow_it_is_a_deny() -> None:
    assert await verdicts() == [Deny("no plugin allowed it")] * 2
    assert await verdicts(impl(now([None, Allow()]))) == [Deny("no plugin allowed it"), Allow("p: ")]


@pytest.mark.parametrize(
    "call",
    [
        raising(KeyError()),
        raising_later(KeyError()),
        now(True),
        later("yes"),
        now([Allow()]),
        later([Allow(), "yes"]),
        never,
    ],
)
async def test_a_plugin_that_fails_denies_everything(call: Callable[..., Any]) -> None:
    ledger = Ledger()
    said = await verdicts(impl(now(Allow())), impl(call, "bad"), impl(now(Allow())), ledger=ledger)
    assert [type(verdict) for verdict in said] == [Deny, Deny]
    assert "plugin bad failed in authorise" in said[0].reason
    assert ledger.faults == {("bad", "authorise"): 1}


ANSWERS = [
    now(None),
    now(Allow("fine")),
    now(Deny("closed")),
    now([None]),
    now([Allow("listed")]),
    now((Allow("listed"),)),
    now([Deny("closed")]),
    now([]),
    now(["yes"]),
    now([Allow(), Allow()]),
    now(True),
    later(None),
    later(Allow("after a while")),
    later([Deny("after a while")]),
    later("yes"),
    raising(KeyError("x")),
    raising_later(KeyError("x")),
]


@pytest.mark.parametrize("first", ANSWERS)
@pytest.mark.parametrize("second", ANSWERS)
async def test_of_one_resource_the_same_is_said_as_of_a_list_of_one(
    first: Callable[..., Any], second: Callable[..., Any]
) -> None:
    listed, alone = (Guard("authorise", [impl(first, "a"), impl(second, "b")], Ledger()) for _ in range(2))
    (verdict,) = await listed(ALICE, Action.USE, RESOURCES[:1])
    assert await alone.denial(ALICE, Action.USE, RESOURCES[0]) == (verdict if isinstance(verdict, Deny) else None)
    assert alone.ledger.faults == listed.ledger.faults


async def test_every_plugin_is_asked_about_one_resource_whatever_the_others_said() -> None:
    asked: list[tuple[object, ...]] = []

    def listen(*args: object) -> None:
        asked.append(args)

    impls = [impl(now(Deny("closed"))), impl(listen), impl(raising(KeyError())), impl(listen)]
    assert await Guard("authorise", impls, Ledger()).denial(ALICE, Action.SEE, RESOURCES[0]) == Deny("p: closed")
    assert asked == [(ALICE, Action.SEE, RESOURCES[:1])] * 2


async def test_a_caller_who_leaves_while_one_resource_is_decided_about_is_no_fault() -> None:
    point = Guard("authorise", [impl(raising(asyncio.CancelledError()))], Ledger())
    with pytest.raises(asyncio.CancelledError):
        await point.denial(ALICE, Action.USE, RESOURCES[0])
    assert not point.ledger.faults


# contexts


class Diary:
    """Plugins that note when they are entered and left."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def plugin(
        self, name: str, enter: BaseException | None = None, leave: BaseException | None = None, answer: object = None
    ) -> Impl:
        @asynccontextmanager
        async def manager(*args: object) -> AsyncIterator[object]:
            if enter:
                raise enter
            self.lines.append(f"+{name}")
            yield answer
            self.lines.append(f"-{name}")
            if leave:
                raise leave

        return impl(manager, name)


async def test_contexts_are_entered_in_order_and_left_in_reverse() -> None:
    diary = Diary()
    point = Contexts("admit", [diary.plugin("a"), impl(now(None)), diary.plugin("b")], Ledger())
    async with Scope() as stack:
        assert await point.enter(stack, 1, 2) is None
        diary.lines.append("work")
    assert diary.lines == ["+a", "+b", "work", "-b", "-a"]


async def test_code_after_the_yield_runs_however_the_request_ended() -> None:
    diary = Diary()
    with pytest.raises(asyncio.CancelledError):  # noqa: PT012 - the scope is a part of it
        async with Scope() as stack:
            await Contexts("admit", [diary.plugin("a")], Ledger()).enter(stack, 1, 2)
            raise asyncio.CancelledError
    assert diary.lines == ["+a", "-a"]


@pytest.mark.parametrize(("hook", "answer"), [("admit", Refusal("later")), ("around_attempt", Skip("full"))])
async def test_a_refusal_stops_and_what_was_taken_is_given_back(hook: str, answer: object) -> None:
    diary = Diary()
    point = Contexts(hook, [diary.plugin("a"), impl(now(answer)), diary.plugin("c")], Ledger())
    async with Scope() as stack:
        assert await point.enter(stack, 1, 2) is answer
        assert diary.lines == ["+a"]
    assert diary.lines == ["+a", "-a"]


@pytest.mark.parametrize(("hook", "answer"), [("admit", Refusal("later")), ("around_attempt", Skip("full"))])
async def test_a_manager_may_yield_the_refusal_and_is_left_like_any_other(hook: str, answer: object) -> None:
    diary = Diary()
    point = Contexts(hook, [diary.plugin("a", answer=answer), diary.plugin("b")], Ledger())
    async with Scope() as stack:
        assert await point.enter(stack, 1, 2) is answer
        assert diary.lines == ["+a"]
    assert diary.lines == ["+a", "-a"]


@pytest.mark.parametrize("yielded", [True, "self", object()])
async def test_whatever_else_a_manager_yields_means_nothing(yielded: object) -> None:
    async with Scope() as stack:
        point = Contexts("admit", [Diary().plugin("a", answer=yielded)], Ledger())
        assert await point.enter(stack, 1, 2) is None


async def test_yielding_what_the_hook_does_not_offer_is_a_fault() -> None:
    diary, ledger = Diary(), Ledger()
    point = Contexts("admit", [diary.plugin("a", answer=Skip("x"))], ledger)
    async with Scope() as stack:
        with pytest.raises(PluginFault, match="yielded a Skip, which admit does not offer"):
            await point.enter(stack, 1, 2)
    assert diary.lines == ["+a", "-a"]
    assert ledger.faults == {("a", "admit"): 1}


@asynccontextmanager
async def stuck(*args: object) -> AsyncIterator[None]:
    await asyncio.Event().wait()
    yield


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (raising(KeyError("x")), "KeyError: 'x'"),
        (
            now("x"),
            "TypeError: returned str, but admit may return AbstractAsyncContextManager, AbstractContextManager,",
        ),
        (now(Skip("x")), "TypeError: returned Skip"),
        (stuck, "not entered within 0.02 s"),
        (Diary().plugin("x", enter=KeyError("y")).call, "KeyError: 'y'"),
    ],
)
async def test_a_fault_on_entering_gives_back_what_was_taken(call: Callable[..., Any], why: str) -> None:
    diary, ledger = Diary(), Ledger()
    point = Contexts("admit", [diary.plugin("a"), impl(call, "bad"), diary.plugin("c")], ledger)
    hurry(point)
    async with Scope() as stack:
        with pytest.raises(PluginFault) as caught:
            await point.enter(stack, 1, 2)
    assert caught.value.why.startswith(why)
    assert diary.lines == ["+a", "-a"]
    assert ledger.faults == {("bad", "admit"): 1}


@pytest.mark.parametrize("call", [raising(KeyError()), now("x"), stuck])
async def test_an_advisory_plugin_that_fails_on_entering_is_left_out(call: Callable[..., Any]) -> None:
    diary, ledger = Diary(), Ledger()
    impls = [diary.plugin("a"), impl(call, "adviser", advisory=True), diary.plugin("c")]
    point = Contexts("around_attempt", impls, ledger)
    hurry(point)
    async with Scope() as stack:
        assert await point.enter(stack, 1, 2) is None
    assert diary.lines == ["+a", "+c", "-c", "-a"]
    assert ledger.faults == {("adviser", "around_attempt"): 1}


async def test_a_fault_on_leaving_is_recorded_and_hides_nothing() -> None:
    diary, ledger = Diary(), Ledger()

    @asynccontextmanager
    async def sticky(*args: object) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    impls = [diary.plugin("a"), diary.plugin("b", leave=KeyError("lost")), impl(sticky, "c")]
    point = Contexts("admit", impls, ledger)
    hurry(point)
    with pytest.raises(ValueError, match="what really happened"):  # noqa: PT012 - the scope is a part of it
        async with Scope() as stack:
            await point.enter(stack, 1, 2)
            raise ValueError("what really happened")
    assert diary.lines == ["+a", "+b", "-b", "-a"]
    assert ledger.faults == {("b", "admit"): 1, ("c", "admit"): 1}


class Plain(AbstractContextManager[None]):
    """A context manager that never waits."""

    def __init__(self, lines: list[str], *, enter: Exception | None = None, leave: Exception | None = None) -> None:
        self.lines, self.enter, self.leave = lines, enter, leave

    def __enter__(self) -> None:
        if self.enter:
            raise self.enter
        self.lines.append("+plain")

    def __exit__(self, *raised: object) -> None:
        self.lines.append("-plain")
        if self.leave:
            raise self.leave


async def test_plain_contexts_take_part_like_async_ones() -> None:
    diary = Diary()
    point = Contexts("admit", [diary.plugin("a"), impl(now(Plain(diary.lines))), diary.plugin("c")], Ledger())
    with pytest.raises(asyncio.CancelledError):  # noqa: PT012 - the scope is a part of it
        async with Scope() as stack:
            await point.enter(stack, 1, 2)
            raise asyncio.CancelledError
    assert diary.lines == ["+a", "+plain", "+c", "-c", "-plain", "-a"]


async def test_a_plain_context_may_yield_the_refusal_too() -> None:
    @contextmanager
    def full(*args: object) -> Iterator[Refusal]:
        yield Refusal("later")

    diary = Diary()
    async with Scope() as stack:
        point = Contexts("admit", [impl(full), diary.plugin("b")], Ledger())
        assert await point.enter(stack, 1, 2) == Refusal("later")
    assert diary.lines == []


async def test_a_context_that_is_both_is_entered_as_one_that_may_wait() -> None:
    class Both(Plain):
        async def __aenter__(self) -> None:
            self.lines.append("+waiting")

        async def __aexit__(self, *raised: object) -> None:
            self.lines.append("-waiting")

    lines: list[str] = []
    async with Scope() as stack:
        await Contexts("admit", [impl(now(Both(lines)))], Ledger()).enter(stack, 1, 2)
    assert lines == ["+waiting", "-waiting"]


async def test_a_fault_of_a_plain_context_is_one_like_any_other() -> None:
    diary, ledger = Diary(), Ledger()
    failing = [impl(now(Plain(diary.lines, **{when: KeyError("x")})), when) for when in ("leave", "enter")]
    async with Scope() as stack:
        with pytest.raises(PluginFault, match="plugin enter failed in admit: KeyError"):
            await Contexts("admit", [diary.plugin("a"), *failing, diary.plugin("c")], ledger).enter(stack, 1, 2)
    assert diary.lines == ["+a", "+plain", "-plain", "-a"]
    assert ledger.faults == {("enter", "admit"): 1, ("leave", "admit"): 1}


async def test_who_may_wait_for_an_hour_may_not_leave_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hookpoints, "LEAVE_DEADLINE", 0.02)
    ledger = Ledger()

    @asynccontextmanager
    async def sticky(*args: object) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    async with asyncio.timeout(5), Scope() as stack:
        await Contexts("wait_for_turn", [impl(sticky, "c")], ledger).enter(stack, 1, 2)
    assert ledger.faults == {("c", "wait_for_turn"): 1}


@pytest.mark.parametrize(
    "call",
    [
        raising(CannotStart("no key")),
        Diary().plugin("a", enter=CannotStart("no key")).call,
        now(Plain([], enter=CannotStart("no key"))),
    ],
)
async def test_what_lifespan_may_raise_to_stop_the_start_is_no_fault(call: Callable[..., Any]) -> None:
    ledger = Ledger()
    point = Contexts("lifespan", [impl(call)], ledger)
    async with Scope() as stack:
        with pytest.raises(CannotStart, match="no key"):
            await point.enter(stack, 1)
    assert not ledger.faults


# gather and notify


def test_the_answers_of_all_plugins_are_put_together_with_their_names() -> None:
    impls = [impl(now("one"), "a"), impl(now(None), "b"), impl(now(["two", "three"]), "c"), impl(now(()), "d")]
    point = Gather[[int], str]("backend_sources", impls, Ledger())
    assert point(1) == [("a", "one"), ("c", "two"), ("c", "three")]


def test_a_fault_ends_the_gathering() -> None:
    with pytest.raises(PluginFault, match="plugin p failed in backend_sources: KeyError"):
        Gather[[int], str]("backend_sources", [impl(raising(KeyError()))], Ledger())(1)


async def test_everybody_is_told_whoever_fails() -> None:
    told: list[str] = []
    tasks, ledger = Tasks(), Ledger()

    async def wait_first(summary: str) -> None:
        await asyncio.sleep(0)
        told.append(f"async {summary}")

    impls = [
        impl(raising(KeyError()), "bad"),
        impl(raising_later(KeyError()), "badly"),
        impl(never, "slow"),
        impl(wait_first, "waits"),
        impl(told.append, "good"),
    ]
    point = Notify("exchange_ended", impls, ledger)
    hurry(point)
    point(tasks.spawn, "the end")
    assert told == ["the end"]
    await tasks.close(grace=5)
    assert told == ["the end", "async the end"]
    assert ledger.faults == {(name, "exchange_ended"): 1 for name in ("bad", "badly", "slow")}
