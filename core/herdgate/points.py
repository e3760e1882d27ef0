"""All hooks of one gateway, compiled from its plugins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import httpx

from herdgate.access import Credentials, Identity, Refusal, Rejected
from herdgate.app import App, Fleet
from herdgate.backend import Backend, Candidate, ModelEntry
from herdgate.exchange import Attempt, Exchange, Head, UpstreamRequest, sendable
from herdgate.failure import Failure, GiveUp, TryNext
from herdgate.faults import Ledger
from herdgate.hookpoints import Chain, Collect, Contexts, First, FirstAsync, Gather, Guard, MaskDenial, Notify
from herdgate.hooks import BackendSource, StreamFilter
from herdgate.metrics import Metric
from herdgate.plugins import Plugin, impls_of
from herdgate.routes import Route


class HookPoints:
    """One compiled point per hook, under the hook's name."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self.ledger = ledger = Ledger()

        def compiled(name: str) -> tuple[str, list[Any], Ledger]:
            return name, impls_of(plugins, name), ledger

        self.lifespan = Contexts(*compiled("lifespan"))
        self.backend_sources = Gather[[App], BackendSource](*compiled("backend_sources"))
        self.list_models = FirstAsync[[Backend, httpx.AsyncClient], Sequence[ModelEntry]](*compiled("list_models"))
        self.shape_catalogue = Chain[Sequence[ModelEntry]](*compiled("shape_catalogue"))
        self.authenticate = FirstAsync[[Exchange, Credentials], Identity | Rejected | Refusal](
            *compiled("authenticate")
        )
        self.identify = FirstAsync[[str], Identity | Rejected](*compiled("identify"))
        self.admit = Contexts(*compiled("admit"))
        self.authorise = Guard(*compiled("authorise"))
        self.mask_denial = MaskDenial(*compiled("mask_denial"))
        self.select_candidates = Chain[Sequence[Candidate]](*compiled("select_candidates"), check=narrowed)
        self.around_attempt = Contexts(*compiled("around_attempt"))
        self.wait_for_turn = Contexts(*compiled("wait_for_turn"))
        self.prepare_upstream = Chain[UpstreamRequest](*compiled("prepare_upstream"), check=sendable)
        self.judge_failure = First[[Exchange, Attempt, Failure], TryNext | GiveUp](*compiled("judge_failure"))
        self.inspect_opening = First[[Exchange, Head, bytes], Failure](*compiled("inspect_opening"))
        self.filter_stream = Gather[[Exchange, Head], StreamFilter](*compiled("filter_stream"))
        self.routes = Gather[[App, Fleet], Route](*compiled("routes"))
        self.collect_metrics = Collect[[], Metric](*compiled("collect_metrics"))
        self.register_commands = Gather[[], click.Command](*compiled("register_commands"))
        self.exchange_ended = Notify(*compiled("exchange_ended"))


def narrowed(given: Sequence[Candidate], returned: Sequence[Candidate]) -> Sequence[Candidate]:
    """What a plugin left of the candidates, once it is sure that it added none and named none twice.

    A plugin may narrow and reorder: a backend it was not given may not host the model, or an earlier plugin took it
    out.
    """
    kept = tuple(returned)  # nobody can add to it behind our back
    known = {id(candidate) for candidate in given}
    for candidate in kept:
        if id(candidate) not in known:
            raise ValueError(f"returned {candidate!r:.80}, which it was not given or returned twice")
        known.discard(id(candidate))
    return kept
