"""The stable code of every error that a user can mend, its meaning, and what to do about it.

A console, an API and a script match on codes; sentences may change. A code is never renamed and
never given another meaning. A new one is added to :data:`ErrorCode` and to :data:`CODES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ErrorCode = Literal[
    "acquisition.invalid",
    "acquisition.mixed_log",
    "acquisition.no_control",
    "acquisition.no_devices",
    "acquisition.nothing_logged",
    "acquisition.snapshot_damaged",
    "acquisition.snapshot_stale",
    "affinity.bad_file",
    "affinity.invalid",
    "audience.too_old",
    "backup.damaged",
    "backup.newer",
    "callback.malformed",
    "callback.unsigned",
    "campaign.conflict",
    "campaign.invalid",
    "campaign.unknown",
    "campaign.unknown_key",
    "command.invalid",
    "command.needs_reason",
    "credential.invalid",
    "credential.missing",
    "database.newer",
    "database.occupied",
    "database.unusable",
    "date.out_of_range",
    "engine.failed",
    "engine.unreachable",
    "export.incomplete",
    "export.invalid",
    "export.refused",
    "export.unknown",
    "export.unreachable",
    "file.exists",
    "file.unreadable",
    "gateway.unknown",
    "home.exists",
    "home.missing",
    "home.unhealthy",
    "identity.answered",
    "identity.invalid",
    "identity.not_made",
    "identity.older",
    "key.missing",
    "key.unknown",
    "landing.bad_file",
    "landing.bad_header",
    "landing.day_failed",
    "landing.misplaced",
    "machine.missing",
    "machine.port_taken",
    "memory.exceeded",
    "message.held",
    "message.unknown",
    "mlflow.unreachable",
    "model.files_changed",
    "model.files_gone",
    "model.none_usable",
    "model.unknown",
    "output.foreign",
    "person.invalid",
    "person.unknown",
    "plan.begun",
    "plugin.unusable",
    "population.invalid",
    "population.no_campaign",
    "program.ended",
    "question.unknown",
    "recommend.bad_file",
    "recommend.invalid",
    "recommend.not_made",
    "record.forbidden_change",
    "rows.refused",
    "run.failed",
    "run.interrupted",
    "schedule.not_due",
    "segment.check_failed",
    "segment.invalid",
    "segment.not_ready",
    "segment.stale",
    "segment.too_large",
    "segment.unknown",
    "setting.invalid",
    "setting.missing",
    "setting.unknown",
    "source.dropped",
    "source.emptied",
    "source.gone",
    "source.invalid",
    "source.not_landed",
    "source.unknown",
    "source.unreachable",
    "source.unreadable",
    "sql.invalid",
    "sql_model.invalid",
    "store.busy",
    "store.unfit",
    "suppression.bad_file",
    "table.no_version",
    "table.refused",
    "tag.invalid",
    "tag.not_ready",
    "task.conflict",
    "task.invalid_name",
    "task.undecided",
    "task.unknown",
    "text.not_approved",
    "text.unsendable",
    "training.insufficient",
]
"""A code: its subject, a dot, and what is wrong with it."""


@dataclass(frozen=True)
class CodeText:
    """What a code stands for.

    Attributes:
        meaning: one line for a reader who has only the code.
        hint: what to do next, where the error itself gives no hint of its own.
    """

    meaning: str
    hint: str


CODES: Mapping[ErrorCode, CodeText] = {
    "acquisition.invalid": CodeText(
        "A key of acquisition.yml breaks a rule.",
        "Correct the key that the message names.",
    ),
    "acquisition.mixed_log": CodeText(
        "The share of devices that the log holds changed within the period of a report.",
        "Name a period with one share.",
    ),
    "acquisition.no_control": CodeText(
        "One of the two arms has no device in the log, so there is nothing to compare.",
        "Set control.share in acquisition.yml, restart the service, and report later days.",
    ),
    "acquisition.no_devices": CodeText(
        "A snapshot of devices would be empty: no id has landed before its date.",
        "Put files of ids into the landing folder identity/, or name a later date.",
    ),
    "acquisition.nothing_logged": CodeText(
        "No decision of the period is in the log.",
        "Name other days, or set log.share in acquisition.yml and restart the service.",
    ),
    "acquisition.snapshot_damaged": CodeText(
        "A file of a snapshot is not whole.",
        "Write the snapshot again: usergrowth rta snapshot.",
    ),
    "acquisition.snapshot_stale": CodeText(
        "The snapshot that exchanges are answered by is older than stale_after_days.",
        "Write today's: usergrowth rta snapshot; and see why the daily run did not.",
    ),
    "affinity.bad_file": CodeText(
        "A file of interactions, items, users or endpoints cannot be used.",
        "Correct the file and the line that the message names.",
    ),
    "affinity.invalid": CodeText(
        "A key or an expression of an affinity job breaks a rule.",
        "Correct what the message names in job_config.json.",
    ),
    "audience.too_old": CodeText(
        "The audience would be older at the time of sending than the campaign allows.",
        "Decide the campaign on a later date, or raise contact.max_audience_days.",
    ),
    "backup.damaged": CodeText(
        "A copy of a home is not whole, or a file of it is not what was copied.",
        "Restore another copy; `usergrowth backup` makes one.",
    ),
    "backup.newer": CodeText(
        "A newer version of the product made the copy.",
        "Upgrade usergrowth-dagster, and restore again.",
    ),
    "callback.malformed": CodeText(
        "A provider's callback cannot be read.",
        "Compare the body with the form that the gateway expects; nothing was recorded.",
    ),
    "callback.unsigned": CodeText(
        "A callback does not carry a valid signature or token.",
        "Enter the address that `usergrowth serve` prints in the provider's console.",
    ),
    "campaign.conflict": CodeText(
        "A campaign uses a name or a code that belongs to another record.",
        "Choose another name in the campaign file.",
    ),
    "campaign.invalid": CodeText(
        "A value of a campaign file breaks a rule.",
        "Correct the key that the message names and apply the file again.",
    ),
    "campaign.unknown": CodeText(
        "No campaign has this name, or the campaign has no such record or task.",
        "List the campaigns and tasks with `usergrowth status`.",
    ),
    "campaign.unknown_key": CodeText(
        "A campaign file has a key that does not exist.",
        "Check the spelling; `usergrowth schema` lets an editor complete the keys.",
    ),
    "command.invalid": CodeText(
        "Options or values of a command contradict each other, or are not among the choices.",
        "See the command's `--help`.",
    ),
    "command.needs_reason": CodeText(
        "The action is kept on record and needs a reason.",
        'Add `--why "…"`.',
    ),
    "credential.invalid": CodeText(
        "A credential is empty, too short, half of a pair, or readable by other users.",
        "Correct the variable or the line of `credentials.toml`, and run `chmod 600` on the file.",
    ),
    "credential.missing": CodeText(
        "A gateway, a database or a destination needs a credential that is not set.",
        "Set the variable, or add a line to `credentials.toml` in the home.",
    ),
    "database.newer": CodeText(
        "A newer version of the product migrated the control database.",
        "Upgrade usergrowth-dagster.",
    ),
    "database.occupied": CodeText(
        "A copy cannot be restored into a database that holds something.",
        "Name an empty database in USERGROWTH_DATABASE_URL.",
    ),
    "database.unusable": CodeText(
        "The control database cannot be opened or migrated.",
        "Check the setting `database_url` and the rights of its user.",
    ),
    "date.out_of_range": CodeText(
        "A date is in the future, before the first execution date, or after the end of its range.",
        "Name a date from the setting `start_date` to today.",
    ),
    "engine.failed": CodeText(
        "Spark could not run a SQL model.",
        "Mend what its answer names, or set `engine` to duckdb: it makes the same rows.",
    ),
    "engine.unreachable": CodeText(
        "The Spark Connect server of the engine cannot be reached, or does not let us in.",
        "Correct `spark_remote`, start the server, or set `engine` to duckdb.",
    ),
    "export.incomplete": CodeText(
        "What a destination holds after an export is not what was sent.",
        "Find out who else writes there, and run the export again.",
    ),
    "export.invalid": CodeText(
        "A key of exports.yml breaks a rule.",
        "Correct the key that the message names; `usergrowth exports check` looks at all of them.",
    ),
    "export.refused": CodeText(
        "A destination cannot take the rows as they are, or is not the one that is known.",
        "Correct the destination or the key that the message names; nothing was written.",
    ),
    "export.unknown": CodeText(
        "exports.yml has no export of that name.",
        "`usergrowth exports list` lists the exports.",
    ),
    "export.unreachable": CodeText(
        "The destination of an export cannot be reached, or does not let its user in.",
        "Correct `to` in exports.yml, the credential or the server, and run the export again.",
    ),
    "file.exists": CodeText(
        "A file is to be written where another one is already.",
        "Give another name, or move the file away.",
    ),
    "file.unreadable": CodeText(
        "A campaign or settings file is missing, too large, or not valid in UTF-8.",
        "Correct the line that the message names.",
    ),
    "gateway.unknown": CodeText(
        "No gateway or channel has this name.",
        "Use one of the names that the message lists.",
    ),
    "home.exists": CodeText(
        "The home folder or the file exists already and would be overwritten.",
        "Choose another folder or file.",
    ),
    "home.missing": CodeText(
        "There is no home folder at this place.",
        "Create it with `usergrowth init`, or set USERGROWTH_HOME.",
    ),
    "home.unhealthy": CodeText(
        "A check of the home or its machine found something that endangers its data.",
        "Do what the message says and run `usergrowth doctor` again.",
    ),
    "identity.answered": CodeText(
        "A suggested pair of users was answered otherwise before.",
        "Look at it with `usergrowth identity suggestions --all`; the audit log says who answered.",
    ),
    "identity.invalid": CodeText(
        "A key of identity.yml breaks a rule.",
        "Correct the key that the message names; `usergrowth identity check` reads it again.",
    ),
    "identity.not_made": CodeText(
        "Nobody has made persons of ids yet, or not for this date.",
        "Put files into `identity/ds=yyyymmdd/` and run `usergrowth identity run`.",
    ),
    "identity.older": CodeText(
        "Persons of a date would be named anew although a later date is named already.",
        "Run the newest date, or a later one; it takes in all links that have landed.",
    ),
    "key.missing": CodeText(
        "The secret key of the ledger is gone.",
        "Restore a copy of it; without it nobody can read the phone numbers.",
    ),
    "key.unknown": CodeText(
        "A value of the ledger is sealed with a key that this process does not have.",
        "Give the process the newest key ring and start it again.",
    ),
    "landing.bad_file": CodeText(
        "A landing file cannot be read: it is damaged, in another format, or not readable.",
        "Write the file again.",
    ),
    "landing.bad_header": CodeText(
        "The first line of a landing file is not the header that its table needs.",
        "Correct the column names in line 1.",
    ),
    "landing.day_failed": CodeText(
        "A day was not landed: a column is missing, or too many rows break a rule.",
        "See the rows with `usergrowth quarantine`, replace the files and run again.",
    ),
    "landing.misplaced": CodeText(
        "Files lie where nothing reads them, or two folders stand for one day.",
        "Move or rename what the message names.",
    ),
    "machine.missing": CodeText(
        "A program, a library or a Python package is not installed.",
        "Install it with the command that the message gives.",
    ),
    "machine.port_taken": CodeText(
        "Another program listens on the port.",
        "Stop it, or name another port.",
    ),
    "memory.exceeded": CodeText(
        "A query takes more memory than the setting `memory_limit` gives it.",
        "Raise the setting, or unset it: two fifths of the machine's memory are the default.",
    ),
    "message.held": CodeText(
        "Messages that may have gone out before a restore cannot be released.",
        "Have the gateway answer look-ups, or close the messages.",
    ),
    "message.unknown": CodeText(
        "No message, reply or planned delivery has this name or id.",
        "List them with `usergrowth delivery` or `usergrowth replies --all`.",
    ),
    "mlflow.unreachable": CodeText(
        "MLflow or its artifact store cannot be used.",
        "Start the server, or correct the setting `mlflow_tracking_uri`.",
    ),
    "model.files_changed": CodeText(
        "A model's files differ from those that were registered; nothing was loaded.",
        "Find out who can write the artifact store, reject the version and train again.",
    ),
    "model.files_gone": CodeText(
        "A model's files are gone from the artifact store.",
        "Train again with `usergrowth train`.",
    ),
    "model.none_usable": CodeText(
        "A task needs a model, and none is approved for its date or fits its features.",
        "Train one, or approve the version that waits (`usergrowth models list`).",
    ),
    "model.unknown": CodeText(
        "No model or version has this name or number.",
        "List them with `usergrowth models list`.",
    ),
    "output.foreign": CodeText(
        "The output folder of a task holds files that the task did not write.",
        "Move them away, or give the campaign another output path.",
    ),
    "person.invalid": CodeText(
        "A text is no phone number, e-mail address or user id.",
        "Write a phone number with + and its country code.",
    ),
    "person.unknown": CodeText(
        "No data mentions this user.",
        "Give the user_id as the landing files write it.",
    ),
    "plan.begun": CodeText(
        "The send plan of a task is in use or begun, so it cannot change.",
        "Leave the task as it is, or upload its people under another name.",
    ),
    "plugin.unusable": CodeText(
        "An installed package registers a gateway or a question that cannot be used.",
        "Mend or uninstall the package that the message names.",
    ),
    "population.invalid": CodeText(
        "An upload cannot be read, has no accepted row, or changed after its decision.",
        "Correct the files, upload the folder again, and decide the task again.",
    ),
    "population.no_campaign": CodeText(
        "No campaign, or more than one, claims an uploaded population.",
        "Give each campaign a population path of its own and apply it.",
    ),
    "program.ended": CodeText(
        "A program that the command started ended or does not listen.",
        "See its log.",
    ),
    "question.unknown": CodeText(
        "No question of a model has this name.",
        "Choose one of those that the message names.",
    ),
    "recommend.bad_file": CodeText(
        "A file of sequences or of categories cannot be used.",
        "Correct the file and the line that the message names.",
    ),
    "recommend.invalid": CodeText(
        "A key of recommend.yml breaks a rule, or nothing that has landed fits it.",
        "Correct what the message names in recommend.yml.",
    ),
    "recommend.not_made": CodeText(
        "The date has no recommendations.",
        "Make them with `usergrowth recommend run`.",
    ),
    "record.forbidden_change": CodeText(
        "The state of a record, a message or a model version does not allow the change.",
        "See where it stands with `usergrowth status`, `delivery` or `models list`.",
    ),
    "rows.refused": CodeText(
        "Rows that a caller sends for scoring are not those of the model's features.",
        "Correct the features that the message names; `?extra=ignore` passes over unknown ones.",
    ),
    "run.failed": CodeText(
        "A run failed, and nothing more is known about why.",
        "Open the run in the Dagster UI (`usergrowth dev`).",
    ),
    "run.interrupted": CodeText(
        "A person stopped the run.",
        "Give the same command again; it goes on where it stopped.",
    ),
    "schedule.not_due": CodeText(
        "The schedule of a campaign has no occurrence on the task's date.",
        "Apply the campaign with a schedule that includes the date.",
    ),
    "segment.check_failed": CodeText(
        "The list of a segment has too many wrong rows, or nobody who is known.",
        "`usergrowth segment errors` lists the rows; correct the list, or raise max_error_share.",
    ),
    "segment.invalid": CodeText(
        "A key of a segment's file breaks a rule, or names what is not there.",
        "Correct the key that the message names; `usergrowth segment check` looks at all of them.",
    ),
    "segment.not_ready": CodeText(
        "A table or a snapshot that a segment reads has nothing for the date.",
        "Build the date with `usergrowth run --date`, or refresh the segment that is named.",
    ),
    "segment.stale": CodeText(
        "The segment of a campaign could not be refreshed, is not valid any more, or has changed.",
        "Refresh the segment as the message says and run the date again.",
    ),
    "segment.too_large": CodeText(
        "A segment takes more time, memory or rows than the settings allow.",
        "Narrow its conditions, or raise the setting that the message names.",
    ),
    "segment.unknown": CodeText(
        "There is no segment, or no snapshot, of that name.",
        "`usergrowth segment list` lists the segments, `usergrowth segment history` the snapshots.",
    ),
    "setting.invalid": CodeText(
        "The value of a setting breaks a rule.",
        "Correct it in `usergrowth.toml` or in the variable.",
    ),
    "setting.missing": CodeText(
        "A gateway needs a setting that is not set.",
        "Set it in `usergrowth.toml` or as a variable.",
    ),
    "setting.unknown": CodeText(
        "The settings file has a name that is no setting.",
        "Check the spelling against the reference of the settings.",
    ),
    "source.dropped": CodeText(
        "The connection to the database of a source was lost while rows were read.",
        "Run the command again: it goes on behind the rows that stand.",
    ),
    "source.emptied": CodeText(
        "A table that had rows has none.",
        "Bring its rows back, or take it as it is with `usergrowth sources land NAME --reread`.",
    ),
    "source.gone": CodeText(
        "The files or the table of a source are not there.",
        "Correct `from` or `database` in sources.yml, or bring them; what has landed stays.",
    ),
    "source.invalid": CodeText(
        "A key or an expression of sources.yml breaks a rule.",
        "Correct the key that the message names; `usergrowth sources check` looks at all of them.",
    ),
    "source.not_landed": CodeText(
        "What is asked for has not landed, or is not in the tables yet.",
        "Run `usergrowth sources land`, then `usergrowth backfill` over its days.",
    ),
    "source.unknown": CodeText(
        "sources.yml has no source of that name.",
        "`usergrowth sources check` lists the sources.",
    ),
    "source.unreachable": CodeText(
        "The database of a source cannot be reached, or does not let its user in.",
        "Correct `database` in sources.yml, the password or the server; what has landed stays.",
    ),
    "source.unreadable": CodeText(
        "The rows of a source cannot be read.",
        "Correct `read` or `database` in sources.yml, or the file at the place that the message "
        "names.",
    ),
    "sql.invalid": CodeText(
        "A statement of `usergrowth sql` cannot be read, is no query, or fails.",
        "Correct the statement at the place that the message names; `.tables` and `.schema` list "
        "names.",
    ),
    "sql_model.invalid": CodeText(
        "A SQL model, the yml beside it, or a macro breaks its format.",
        "Correct the file and the key that the error names; sql/model.schema.json is the format.",
    ),
    "store.busy": CodeText(
        "Another process writes the same rows or does the same work.",
        "Run the command again when the other process has ended.",
    ),
    "store.unfit": CodeText(
        "The object store lacks what a commit of a table needs.",
        "Use another store or a directory (USERGROWTH_STORAGE); `usergrowth doctor` probes it.",
    ),
    "suppression.bad_file": CodeText(
        "A suppression list cannot be imported or written.",
        "Correct the lines that the message names, or leave them out with `--skip-bad`.",
    ),
    "table.no_version": CodeText(
        "A table has no such version, was not there at that time, or its files were removed.",
        "List the tables with `.tables` in `usergrowth sql`, and choose another version.",
    ),
    "table.refused": CodeText(
        "A table fails a check, so its new rows are not published.",
        "Correct the landing files of its inputs and run the day again.",
    ),
    "tag.invalid": CodeText(
        "A key of tags.yml, or a file that it names, breaks a rule.",
        "Correct what the message names; `usergrowth tags check` looks at all of it.",
    ),
    "tag.not_ready": CodeText(
        "What tags are made from, or the tags themselves, are not there for the date.",
        "Land the days before the date, then `usergrowth tags run --date DATE`.",
    ),
    "task.conflict": CodeText(
        "A task exists already with another campaign, population or date.",
        "Upload the people into a folder of another name.",
    ),
    "task.invalid_name": CodeText(
        "The name of a folder or a task is not allowed.",
        "Use up to 64 of the characters A-Z a-z 0-9 _ and -.",
    ),
    "task.undecided": CodeText(
        "The task, or the period, has nothing decided on record that the command needs.",
        "Land the days before its date and run the date with `usergrowth run --date`.",
    ),
    "task.unknown": CodeText(
        "No task has this name.",
        "List the tasks with `usergrowth status`.",
    ),
    "text.not_approved": CodeText(
        "A signature or a template is not approved, so it cannot be sent.",
        "Approve it with `usergrowth review`.",
    ),
    "text.unsendable": CodeText(
        "A text lacks something that its channel or the law requires.",
        "Change the template's content, apply it and have it reviewed.",
    ),
    "training.insufficient": CodeText(
        "The training window has too few rows or too few labels of one kind.",
        "Widen the training window, or land more days.",
    ),
}
"""By code, what it stands for; the reference of the documentation is generated from it."""
