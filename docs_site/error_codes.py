"""The page of the error codes, from their registry."""

from docs_site.markdown import code, table
from usergrowth_dagster.error_codes import CODES

HEAD = """\
# Error codes

A mistake that you can mend ends a command with exit code 2 and one sentence on standard error. With
`--json` the document on standard output names its code and a hint:

```json
{
 "errors": [
  {
   "code": "home.missing",
   "hint": "Create it with `usergrowth init`, or set USERGROWTH_HOME.",
   "message": "/srv/none: no home folder; make one with usergrowth init"
  }
 ],
 "failures": ["/srv/none: no home folder; make one with usergrowth init"],
 "notes": []
}
```

A failed step in Dagster carries both as metadata. The record of a failed task keeps both, and
`usergrowth status --json` lists them under `failed_tasks`. Codes do not change; sentences may.
"""


def page() -> str:
    """Codes in alphabetical order, with their meaning and what to do."""
    lines = [
        (f'<a id="{name}"></a>{code(name)}', text.meaning, text.hint)
        for name, text in sorted(CODES.items())
    ]
    return f"{HEAD}\n{table(('code', 'meaning', 'what to do'), lines)}"
