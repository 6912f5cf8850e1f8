"""The rows of the registry for sections `[node NAME]`: what may differ from node to node.

A table of constants. Each row feeds a field of `NodeSettings`; a key without value leaves the
general setting in force. How the texts are read: `dgate.config.node_sections`.
"""

from __future__ import annotations

from dgate.config.keys import NODE, Key, KeyType, Mark

_TIMES = """\
Hours of the day, with the days on which they begin before them, several of them after commas:
   22:00-06:00
   mon-fri 18:00-07:00, sat,sun 00:00-24:00
Times are local. A span that ends before it begins goes on into the next day."""
_WINDOW = f"""\
{_TIMES}
Outside of them the deliveries wait; an object that is being sent is finished. What waits, and until
when, is shown by dgate queue list."""
_BANDWIDTH = """\
A number alone counts always; one behind a span of hours counts in these hours:
   2000
   2000, mon-fri 07:00-19:00 500, 22:00-06:00 0
0 is no limit. The first span that fits counts. All associations to the node share the bandwidth."""
_SYNTAXES = """\
The names of PS3.6 (ExplicitVRLittleEndian, JPEGLSLossless, RLELossless ...), UIDs, or short words:
   as        as the object is stored
   implicit, explicit, bigendian, deflated, rle
   jpeg, jpeg12, jpeglossless, jpegls, jpegls-lossy, jpeg2000, jpeg2000-lossy, htj2k, jpegxl
They are proposed in this order, and the first is used that the node takes and that can be made of
the stored object. Nothing else is proposed: with `as` at the end nothing has to be refused."""
_STATUSES = """\
A status, or a range of them, in hexadecimal digits, each with what it means:
   wait       the node cannot take anything now; all its deliveries pause
   retry      this object is tried again later, the others go on
   fail       the delivery is set aside as stuck
   delivered  the node has the object
In the place of a status may stand an error, with all meanings but the last:
   refused    no connection comes about
   rejected   the node rejects the association, for whatever reason
   aborted    the association is aborted, the connection lost, or the protocol broken
   timeout    the node does not answer in time, or the object takes longer than its deadline
   syntax     the node accepts no presentation context for the object
The first that fits counts; the others mean what docs/delivery.md says."""
_GROUP = """\
A rule that forwards to the name of the group sends each study to one of its members, always to the
same as long as that is up. What a member has not taken goes to the next when the member has been
down for FallbackAfter minutes (1 without that key). The name must not be that of a node."""
_FALLBACK = """\
What the node has not taken FallbackAfter minutes after it was due goes to the other node instead;
the list of deliveries shows from where. That one may have a fallback of its own."""
_DEADLINE = """\
A node that takes or answers a byte now and then would hold an association for ever. Without the key
an object may take 10 minutes, and a second more for each 20,000 bytes, or as long as Bandwidth
lets it take, if that is longer."""
_COMMIT = """\
What the node has accepted is asked for by storage commitment (PS3.4 annex J), and sent again where
it does not commit. Its report comes on the same association, or on one that it opens: then it must
know this gateway's AE title, address and port, and dgatesop.lst must list 1.2.840.10008.1.20.1."""

_EXPECT = """\
   yes    the node is asked by C-FIND
   mpps   the objects are those that performed procedure steps (MPPS) of the study name: all steps
          that are known must have been completed or discontinued
For mpps, dgatesop.lst must list 1.2.840.10008.3.1.2.3.3, and the modality send its steps here."""

_S, _MIN = "seconds", "minutes"


def _key(
    name: str,
    kind: KeyType,
    default: str,
    meaning: str,
    feeds: str,
    **more: object,
) -> Key:
    return Key(name, kind, default, meaning, Mark.OWN, feeds, section=NODE, **more)  # type: ignore[arg-type]


NODE_KEYS: tuple[Key, ...] = (
    _key(
        "Associations",
        KeyType.INT,
        "",
        "How many associations deliver to the node at once, instead of DelayedForwarderThreads.",
        "associations",
        least=1,
        most=64,
        unit="associations",
        example="4",
    ),
    _key(
        "ObjectsPerAssociation",
        KeyType.INT,
        "0",
        "After so many objects the association is closed and another one opened; 0 = never.",
        "objects_per_association",
        least=0,
        most=1_000_000,
        unit="objects",
        example="500",
    ),
    _key(
        "ConnectTimeOut",
        KeyType.SECONDS,
        "",
        "Seconds within which a connection to the node has to come about.",
        "connect_timeout_s",
        least=1,
        most=3600,
        unit=_S,
        example="10",
    ),
    _key(
        "ResponseTimeOut",
        KeyType.SECONDS,
        "",
        "Seconds within which the node has to answer, instead of TCPIPTimeOut.",
        "response_timeout_s",
        least=1,
        most=86_400,
        unit=_S,
        example="60",
    ),
    _key(
        "Deadline",
        KeyType.SECONDS,
        "",
        "Seconds that one object may take at most, from its first byte to the node's answer.",
        "deadline_s",
        least=1,
        most=604_800,
        unit=_S,
        example="300",
        details=_DEADLINE,
    ),
    _key(
        "TransferSyntaxes",
        KeyType.SYNTAXES,
        "",
        "Transfer syntaxes that are proposed to the node, the one liked best first, instead of "
        "those of its compression code in acrnema.map.",
        "transfer_syntaxes",
        example="rle, explicit, implicit",
        details=_SYNTAXES,
    ),
    _key(
        "Window",
        KeyType.TIMES,
        "",
        "When anything is sent to the node.",
        "window",
        example="06:00-23:00",
        details=_WINDOW,
    ),
    _key(
        "BulkWindow",
        KeyType.TIMES,
        "",
        "When deliveries of the priority bulk are sent to the node, instead of Window.",
        "bulk_window",
        example="mon-fri 18:00-07:00, sat,sun 00:00-24:00",
        details=_WINDOW,
    ),
    _key(
        "Bandwidth",
        KeyType.RATES,
        "",
        "Thousands of bits that are sent to the node in a second, by hour.",
        "bandwidth",
        unit="kbit/s",
        example="2000, mon-fri 07:00-19:00 500",
        details=_BANDWIDTH,
    ),
    _key(
        "RetryFirst",
        KeyType.SECONDS,
        "",
        "Seconds before a delivery to the node that failed is tried again; doubled after each "
        "failure.",
        "retry_first_s",
        least=0,
        most=86_400,
        unit=_S,
        example="5",
    ),
    _key(
        "RetryMax",
        KeyType.SECONDS,
        "",
        "Longest pause in seconds between two tries of a delivery to the node.",
        "retry_max_s",
        least=0,
        most=604_800,
        unit=_S,
        example="600",
    ),
    _key(
        "RetryDelay",
        KeyType.SECONDS,
        "",
        "Fixed pause in seconds between tries, instead of RetryFirst and RetryMax.",
        "retry_delay_s",
        least=0,
        most=604_800,
        unit=_S,
        example="100",
    ),
    _key(
        "FailHoldOff",
        KeyType.SECONDS,
        "",
        "Least pause in seconds of the node after a failure.",
        "fail_hold_off_s",
        least=0,
        most=604_800,
        unit=_S,
        example="60",
    ),
    _key(
        "MaximumExportRetries",
        KeyType.INT,
        "",
        "Tries after which a delivery to the node is set aside as stuck; 0 = never.",
        "maximum_export_retries",
        least=0,
        most=1_000_000,
        unit="tries",
        example="100",
    ),
    _key(
        "Statuses",
        KeyType.STATUSES,
        "",
        "What answers of the node and failures of its associations mean, where it has a way of its "
        "own.",
        "statuses",
        example="A700 wait, C000-CFFF retry, 0122 fail, B000 delivered, timeout retry",
        details=_STATUSES,
    ),
    _key(
        "Fallback",
        KeyType.AE,
        "",
        "The node that gets what this one has not taken in time.",
        "fallback",
        example="ARCHIVE2",
        details=_FALLBACK,
    ),
    _key(
        "FallbackAfter",
        KeyType.MINUTES,
        "",
        "Minutes after which deliveries go to the fallback node (60 without this key), or to "
        "another member of the group (1 without this key).",
        "fallback_after_min",
        least=0,
        most=100_000,
        unit=_MIN,
        example="30",
    ),
    _key(
        "Group",
        KeyType.TEXT,
        "",
        "Name of the load-sharing group that the node belongs to.",
        "group",
        example="READERS",
        details=_GROUP,
    ),
    _key(
        "Commit",
        KeyType.BOOL,
        "0",
        "Whether a delivery counts only when the node has committed to storage.",
        "commit",
        example="yes",
        details=_COMMIT,
    ),
    _key(
        "CommitTimeOut",
        KeyType.SECONDS,
        "3600",
        "Seconds after which a node that has not reported about a commitment is asked again.",
        "commit_timeout_s",
        least=1,
        most=2_592_000,
        unit=_S,
    ),
    _key(
        "CommitWait",
        KeyType.SECONDS,
        "2",
        "Seconds for which accepted objects are gathered into one request for commitment.",
        "commit_wait_s",
        least=0,
        most=3600,
        unit=_S,
    ),
    _key(
        "CommitBeforeDelete",
        KeyType.BOOL,
        "0",
        "Whether clean-up and `dgate delete` spare what the node has taken and not committed to.",
        "commit_before_delete",
        example="yes",
    ),
    _key(
        "Reconcile",
        KeyType.TIMES,
        "",
        "When the archive is compared with the node; empty = only by command.",
        "reconcile",
        example="03:00-05:00",
        details=_TIMES,
    ),
    _key(
        "ReconcileDays",
        KeyType.INT,
        "7",
        "How many days back the comparison by schedule looks, by study date.",
        "reconcile_days",
        least=1,
        most=36_500,
        unit="days",
    ),
    _key(
        "ReconcileLevel",
        KeyType.CHOICE,
        "study",
        "Down to which level the comparison by schedule looks even where the numbers of objects "
        "are equal.",
        "reconcile_level",
        choices=("study", "series", "object"),
        example="series",
    ),
    _key(
        "ReconcileSend",
        KeyType.BOOL,
        "0",
        "Whether the comparison by schedule sends what the node does not have.",
        "reconcile_send",
        example="yes",
    ),
    _key(
        "ReconcileFetch",
        KeyType.BOOL,
        "0",
        "Whether the comparison by schedule fetches what only the node has.",
        "reconcile_fetch",
        example="yes",
    ),
    _key(
        "Priority",
        KeyType.CHOICE,
        "",
        "How urgent deliveries of what this node sends us are; without the key, as the Priority of "
        "its C-STORE says.",
        "priority",
        choices=("", "stat", "normal", "bulk"),
        example="stat",
    ),
    _key(
        "ExpectCounts",
        KeyType.CHOICE,
        "no",
        "Who tells how many objects a study has that the node sends us, so that what waits for "
        "quiet can begin when all are there.",
        "expect_counts",
        choices=("no", "yes", "mpps"),
        example="mpps",
        details=_EXPECT,
    ),
)
