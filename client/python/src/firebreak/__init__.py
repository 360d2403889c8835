"""The Python client of Firebreak: asyncio, typed, thin.

The client knows nodes in several data centers, leaves one that is silent or refuses, and sends again elsewhere under
the same id until the caller's deadline. So the loss of a data center is one slow call and not an error, and whatever
was sent twice has one effect.
"""

from .client import Client, Stats
from .dialer import Pem
from .errors import Closed, Code, Config, Deadline, Error, Gap, Refusal, Refused, Violation
from .feed import Changes
from .follow import Follow, Followed, Trimmed
from .message import Appended, Changed, Edit, Message
from .nodes import NodeHealth
from .options import DEADLINE_DEFAULT
from .read import LINEARIZABLE, LOCAL, Level, ListOptions, Page
from .session import Session
from .stream import Ack, AppendStream
from .tail import Event, From, Tail
from .tenants import Tenant

__all__ = [
    "DEADLINE_DEFAULT",
    "LINEARIZABLE",
    "LOCAL",
    "Ack",
    "AppendStream",
    "Appended",
    "Changed",
    "Changes",
    "Client",
    "Closed",
    "Code",
    "Config",
    "Deadline",
    "Edit",
    "Error",
    "Event",
    "Follow",
    "Followed",
    "From",
    "Gap",
    "Level",
    "ListOptions",
    "Message",
    "NodeHealth",
    "Page",
    "Pem",
    "Refusal",
    "Refused",
    "Session",
    "Stats",
    "Tail",
    "Tenant",
    "Trimmed",
    "Violation",
]
