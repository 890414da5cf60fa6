"""What Twilio's answers, error codes and statuses mean.

=================================================  ==============================================
201                                                accepted
a code of :data:`REJECTED` (21610: opted out)      rejected
429 and the codes of :data:`WAITS`                 deferred
401, 403, 404 and the codes of :data:`STOPPED`     stop
any other 4xx                                      rejected if another message of the batch was
                                                   taken, else stop (Twilio advises against
                                                   relying on codes, which it changes)
anything else                                      in doubt
=================================================  ==============================================
"""

from usergrowth_dagster.messaging.gateways.protocol import Answer, Found, Result

OPTED_OUT = 21610
REJECTED = frozenset(
    {
        *(21211, 21214, 21217, 21265, 21266, 21267, 21268, 21269),  # not a number to text to
        *(21408, OPTED_OUT, 21612, 21614, 21635),  # country, refusal, route, no mobile, landline
        *(21602, 21605, 21617, 21619),  # the text: missing or too long
    }
)
"""Codes about one recipient or text."""
WAITS = {20429: 10.0, 14107: 10.0, 21611: 60.0, 30001: 60.0, 30610: 3600.0}
"""Seconds to wait by code: too many requests, full queue, quiet hours at the recipient."""
STOPPED = frozenset(
    {
        *(20003, 20005, 20008, 10001, 30002, 90010),  # credentials; account suspended or closed
        *(21212, 21603, 21606, 21607, 21659, 21660, 21661, 21703, 21704, 21705),  # the sender
    }
)
"""Codes about the account or the sender."""
STATUS = {
    **dict.fromkeys(("accepted", "scheduled", "queued", "sending", "sent"), Found.ACCEPTED),
    **dict.fromkeys(("delivered", "read", "partially_delivered"), Found.DELIVERED),
    **dict.fromkeys(("undelivered", "failed", "canceled"), Found.UNDELIVERED),
}
"""Statuses of a message."""


def sort_refusal(out_id: str, status: int, code: int) -> Result:
    """What an HTTP error with Twilio's code means; see the module's table."""
    kept = str(code or status)
    if code in WAITS or status == 429:
        return Result(out_id, Answer.DEFERRED, kept, retry_after=WAITS.get(code, 10.0))
    if code == OPTED_OUT:
        return Result(out_id, Answer.REJECTED, kept, opted_out=True)
    if code in REJECTED:
        return Result(out_id, Answer.REJECTED, kept)
    if code in STOPPED or status in (401, 403, 404):
        return Result(out_id, Answer.STOP, kept)
    if 400 <= status < 500:
        return Result(out_id, Answer.STOP, f"?{kept}")
    return Result(out_id, Answer.IN_DOUBT, kept)
