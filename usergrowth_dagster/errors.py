"""The one exception for a mistake that the user can mend."""


class UserError(Exception):
    """A mistake in the user's files, settings or commands.

    Its text is one sentence that names the file, line, column and rule (or the key path in a YAML)
    and says what to do next. The command line prints it without a traceback and exits with 2;
    an asset fails with it as its only message.
    """


class SetUpError(UserError):
    """Something that the operator must set up first: a credential, or a provider's SDK."""
