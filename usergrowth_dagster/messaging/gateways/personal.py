"""Which of a provider's codes belong to the person: their number, or their refusal.

Every other code may hold for everybody: a sender that is not registered, a quota, a blocked text.
"""

import re

from usergrowth_dagster.messaging.gateways.twilio_codes import OPTED_OUT

_TWILIO = frozenset(
    {
        *(21211, 21214, 21217, 21265, 21266, 21267, 21268, 21269),  # not a number to text to
        *(OPTED_OUT, 21614, 21635),  # refusal, no mobile, landline
        *(30003, 30004, 30005, 30006),  # unreachable, blocked by the person, unknown, landline
    }
)
_ALIYUN = frozenset(
    {
        *("isv.MOBILE_NUMBER_ILLEGAL", "isv.DOMESTIC_NUMBER_NOT_SUPPORTED"),
        *("isv.TEMPLATE_MISSING_PARAMETERS", "isv.TEMPLATE_PARAMS_ILLEGAL"),
        *("isv.PARAM_LENGTH_LIMIT", "isv.BUSINESS_LIMIT_CONTROL"),
        *("MOBILE_NOT_ON_SERVICE", "MOBILE_IN_BLACK", "MOBILE_ACCOUNT_ABNORMAL"),
        *("MOBILE_TERMINAL_ERROR", "MOBILE_SEND_LIMIT", "USER_REJECT"),
    }
)
_KANNEL = frozenset({"400", "403 not routable"})
_CODES = frozenset({*map(str, _TWILIO), *_ALIYUN, *_KANNEL, "bad_address", "smtputf8_not_offered"})
_MAIL_BOX = re.compile(r"5\d\d 5\.[12]\.\d{1,3}|5\.[12]\.\d{1,3}")
"""Enhanced codes (RFC 3463) about the address or the mail box."""


def is_personal(code: str) -> bool:
    """Whether a code belongs to one person.

    >>> is_personal("21610"), is_personal("550 5.1.1"), is_personal("30034")
    (True, True, False)
    """
    return code in _CODES or _MAIL_BOX.fullmatch(code) is not None
