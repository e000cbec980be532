"""Funds: what users have, and what the operator puts in and takes out (rules F1-F4).

The routes of transfers are the operator's; a transfer is durable when they answer. Balances are read from the database.
"""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request, Response

from ome.api.auth import caller_of, user_for
from ome.api.bodies import read_json
from ome.api.decoding import read_transfer
from ome.api.fund_schemas import BalanceList, BalanceView, TransferRequest, TransferView
from ome.api.openapi import TRANSFER_EXAMPLES, answers, body, declare
from ome.api.outcomes import refused
from ome.api.problems import REPLAYED_HEADER
from ome.api.routes.queries import NoParameters, UserIdPath
from ome.api.services import JsonAnswer, Services, headers_of
from ome.domain.access import Access
from ome.domain.amounts import amount_text, atoms_of_text
from ome.domain.clock import format_time
from ome.domain.enums import TransferKind
from ome.domain.events import CommandRefused
from ome.domain.numbers import format_number
from ome.domain.records import BalanceRecord, TransferRecord

_TAG: Final = "Funds"


class FundsRoutes:
    """Deposits, withdrawals and balances."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def add_to(self, app: FastAPI) -> None:
        """Declare the routes."""
        extra, made = body(TransferRequest, TRANSFER_EXAMPLES), answers(TransferView, 201)
        operator = Access.OPERATOR
        declare(app, "POST", "/admin/deposits", self.deposit, _TAG, made, access=operator, openapi_extra=extra, status_code=201)
        declare(
            app, "POST", "/admin/withdrawals", self.withdraw, _TAG, made, access=operator, openapi_extra=extra, status_code=201
        )
        path = "/users/{user_id}/balances"
        declare(app, "GET", path, self.read_balances, _TAG, answers(BalanceList), access=Access.READ)

    async def deposit(self, query: NoParameters, request: Request) -> Response:  # noqa: ARG002  read to refuse others
        """Put an amount into a user's account.

        Sent again with the same `client_transfer_id` it is made once: the answer says `replayed`.
        """
        return await self._transfer(TransferKind.DEPOSIT, request)

    async def withdraw(self, query: NoParameters, request: Request) -> Response:  # noqa: ARG002  read to refuse others
        """Take an amount out of a user's account, of what is available: what open orders hold stays.

        More is refused (`insufficient_funds`) and leaves nothing. Sent again with the same `client_transfer_id` it is made once.
        """
        return await self._transfer(TransferKind.WITHDRAWAL, request)

    async def _transfer(self, kind: TransferKind, request: Request) -> Response:
        services = self._services
        sent = await read_json(headers_of(request), request.receive, services.settings.max_body_bytes)
        answer = await services.funds.transfer(read_transfer(sent, kind))
        if isinstance(answer.outcome, CommandRefused):
            raise refused(answer.outcome)
        response = JsonAnswer(transfer_view(answer.outcome, replayed=answer.replayed), 201)
        if answer.replayed:
            response.raw_headers.append(REPLAYED_HEADER)
        return response

    async def read_balances(self, user_id: UserIdPath, query: NoParameters, request: Request) -> Response:  # noqa: ARG002
        """Read what a user has of each asset: in all, held by open orders, and available."""
        user_id = user_for(caller_of(request.scope), user_id)
        found = await self._services.reads.balances_of_user(user_id)
        return JsonAnswer(BalanceList(user_id=user_id, balances=[balance_view(record) for record in found]))


def transfer_view(record: TransferRecord, *, replayed: bool) -> TransferView:
    """A transfer that was made."""
    return TransferView(
        transfer_id=str(record.id),
        kind=record.kind.name,
        user_id=record.user_id,
        asset=record.asset,
        amount=format_number(record.amount),
        client_transfer_id=record.client_transfer_id,
        created_at=format_time(record.created_at),
        replayed=replayed,
    )


def balance_view(record: BalanceRecord) -> BalanceView:
    """What somebody has of an asset."""
    available = atoms_of_text(record.total) - atoms_of_text(record.reserved)
    return BalanceView(asset=record.asset, total=record.total, reserved=record.reserved, available=amount_text(available))
