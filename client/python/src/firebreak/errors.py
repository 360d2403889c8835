"""What a call can end with, and what a node's answer means for the next attempt."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

Code = grpc.StatusCode
CODES: dict[int, Any] = {code.value[0]: code for code in Code}


@dataclasses.dataclass(frozen=True)
class Violation:
    """One field that was wrong."""

    field: str
    description: str


#: What helps a caller of this client.
_HELP = {
    "CREDENTIALS_MISSING": "give the Client api_key=",
    "TLS_REQUIRED": "give the Client ca=, the file of the authority that has certified the nodes",
}


@dataclasses.dataclass
class Refusal:
    """A node's refusal, as it came over the wire."""

    code: Any
    #: The ErrorInfo's reason; empty when there was none.
    reason: str = ""
    #: For people.
    message: str = ""
    violations: list[Violation] = dataclasses.field(default_factory=list)
    #: The ErrorInfo's metadata, such as the last seq.
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: Seconds after which the node says that trying again is worth it.
    retry_after: float | None = None

    def __str__(self) -> str:
        text = self.message or self.code.name
        if self.reason:
            text += f" ({self.reason})"
        if self.reason in _HELP:
            text += f"; {_HELP[self.reason]}"
        for one in self.violations:
            said = f"{one.field}: {one.description}"
            if said not in self.message:
                text += f"; {said}"
        return text


class Error(Exception):
    """Why a call did not succeed."""

    #: The gRPC code that says this.
    code: Any = Code.UNKNOWN
    #: The reason of the answer's ErrorInfo, such as SEQ_MISMATCH; of the last answer when the deadline passed. Empty
    #: when no node gave one.
    reason: str = ""
    #: The ErrorInfo's metadata.
    metadata: Mapping[str, str] = {}
    #: Every field that was wrong.
    violations: list[Violation] = []
    #: Whether the same call, with the same id, may succeed later.
    retryable: bool = False
    #: Whether it may have been done although this error came back.
    outcome_unknown: bool = False

    @property
    def is_not_found(self) -> bool:
        """Whether the named thing does not exist."""
        return bool(self.code == Code.NOT_FOUND)


class Refused(Error):
    """A node refused the call, and sending the same again would change nothing."""

    def __init__(self, refusal: Refusal, outcome_unknown: bool = False) -> None:
        text = str(refusal)
        if outcome_unknown:
            text += "; an earlier attempt may have been carried out"
        super().__init__(text)
        self.refusal = refusal
        self.code, self.reason, self.metadata = refusal.code, refusal.reason, refusal.metadata
        self.violations = refusal.violations
        self.retryable = retryable(refusal)
        self.outcome_unknown = outcome_unknown


class Deadline(Error):
    """The deadline passed."""

    code = Code.DEADLINE_EXCEEDED
    retryable = True

    def __init__(self, outcome_unknown: bool, attempts: int, last: Refusal | None = None) -> None:
        text = f"the deadline passed after {attempts} attempts"
        if outcome_unknown:
            text += "; whether it was done is not known, and asking the same again is safe"
        if last is not None:
            text += f"; the last answer was: {last}"
        super().__init__(text)
        self.outcome_unknown, self.attempts, self.last = outcome_unknown, attempts, last
        if last is not None:
            self.reason, self.metadata = last.reason, last.metadata


class Gap(Error):
    """A tail was given messages with one left out, by several nodes in a row."""

    code = Code.DATA_LOSS

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"message {expected} is missing: {found} came instead")
        self.expected, self.found = expected, found


class Config(Error):
    """The client was not set up rightly: an address that is none, no address, no session token, a file that does not
    hold what it should."""

    code = Code.INVALID_ARGUMENT


class Closed(Error):
    """The stream was closed before this message was answered."""

    code = Code.CANCELLED
    retryable = True
    outcome_unknown = True

    def __init__(self) -> None:
        super().__init__("the stream was closed")


class Fault(enum.Enum):
    """What a failed attempt says about the node that was asked."""

    #: It does not answer: it is left until a probe succeeds.
    NODE = 1
    #: It answers, and cannot serve this now: another is asked.
    REFUSED = 2
    #: It answers, and wants its clients to go elsewhere for a while.
    LEAVING = 3
    NONE = 4


_RETRIED = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNKNOWN, Code.DATA_LOSS}
_SETTLED = {Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.ABORTED, Code.OUT_OF_RANGE}
#: What gRPC says when a stream had ended as something was written to it, in place of what it had ended with.
_ENDED = "Internal error from Core"
_LEAVING = {"NODE_STOPPING", "CLUSTER_NOT_READY"}


def retryable(refusal: Refusal) -> bool:
    """Whether another attempt, here or elsewhere, may be answered otherwise."""
    if refusal.retry_after is not None or refusal.code in _RETRIED:
        return True
    # Without a reason these come from the transport: a reset stream, a refused frame.
    return refusal.code in (Code.INTERNAL, Code.RESOURCE_EXHAUSTED) and not refusal.reason


def settles(refusal: Refusal) -> bool:
    """Whether it also says that no earlier attempt under the same id was carried out: nodes look an id up before
    every rule that depends on state."""
    return refusal.code in _SETTLED


def fault_of(refusal: Refusal) -> Fault:
    """What a refusal says about its node."""
    code, reason = refusal.code, refusal.reason
    if code == Code.DATA_LOSS:
        return Fault.REFUSED
    if code == Code.UNAVAILABLE and reason in _LEAVING:
        return Fault.LEAVING
    if code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED) and reason:
        return Fault.REFUSED
    if refusal.message == _ENDED and not reason:
        return Fault.NONE
    transport = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNKNOWN, Code.INTERNAL)
    return Fault.NODE if code in transport and not reason else Fault.NONE


def never_sent(refusal: Refusal) -> bool:
    """Whether no connection could be opened, so that no node can have seen the request."""
    said = refusal.message.startswith("failed to connect to all addresses")
    return refusal.code == Code.UNAVAILABLE and not refusal.reason and said


def silent(after: float) -> Refusal:
    """A node that did not answer in time."""
    return Refusal(Code.DEADLINE_EXCEEDED, message=f"no answer for {after * 1000:.0f} ms")


def predecessor() -> Refusal:
    """What a streamed message gets when the outcome of one before it in its conversation stays unknown."""
    text = "an earlier message of this conversation failed"
    return Refusal(Code.ABORTED, "PREDECESSOR_FAILED", text, retry_after=0.0)


def from_item(error: Any) -> Refusal:
    """The refusal of one item of a stream."""
    code = CODES.get(error.code, Code.UNKNOWN)
    after = error.retry_after_ms / 1000 if error.retry_after_ms > 0 else None
    return Refusal(code, error.reason, error.message, retry_after=after)


def from_rpc(error: Any) -> Refusal:
    """The refusal of a call, with its details."""
    refusal = Refusal(error.code() or Code.UNKNOWN, message=error.details() or "")
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            _details(refusal, value)
    return refusal


def _details(refusal: Refusal, encoded: bytes) -> None:
    status = status_pb2.Status()
    try:
        status.ParseFromString(encoded)
        for detail in status.details:
            _detail(refusal, detail)
    except ValueError:
        # Not what a node writes: the code and the text remain.
        return


def _detail(refusal: Refusal, detail: Any) -> None:
    if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
        info = error_details_pb2.ErrorInfo()
        detail.Unpack(info)
        refusal.reason, refusal.metadata = info.reason, dict(info.metadata)
    elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
        retry = error_details_pb2.RetryInfo()
        detail.Unpack(retry)
        refusal.retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
        bad = error_details_pb2.BadRequest()
        detail.Unpack(bad)
        refusal.violations = [Violation(one.field, one.description) for one in bad.field_violations]
