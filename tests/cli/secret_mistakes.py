"""The mistakes that people make with the secrets of a job file, as rows of test_bad_input."""

from __future__ import annotations

PLACES = "secretsmanager:NAME-OR-ARN, ssm:/PATH, or env:NAME for a variable of your shell"
PASTED = (
    "it looks like a secret itself, and a job file is no place for one: put it into Secrets"
    f" Manager, the Parameter Store or your shell, and write {PLACES}; then make a new one, if"
    " others may have read this file"
)

SECRET_MISTAKES = [
    (
        "secrets that are no mapping",
        "budget: 2.00",
        "secrets: hunter2-hunter2",
        "F:10: secrets: expected `NAME: secretsmanager:…`, `NAME: ssm:/…` or `NAME: env:VARIABLE`"
        " lines",
    ),
    (
        "secret that is pasted",
        "budget: 2.00",
        "secrets: {WANDB_API_KEY: hunter2-hunter2}",
        f"F:10: secrets.WANDB_API_KEY: {PASTED}",
    ),
    (
        "secret that is a number",
        "budget: 2.00",
        "secrets:\n  PIN: 12345678",
        f"F:11: secrets.PIN: {PASTED}",
    ),
    (
        "secret that is YAML's business",
        "budget: 2.00",
        "secrets:\n  PIN: *hunter2",
        "F:11: not valid YAML; put the value in quotes",
    ),
    (
        "secret in the place of its name",
        "budget: 2.00",
        "secrets: {hunter2-hunter2: WANDB_API_KEY}",
        "F:10: secrets: the name of one is no variable's name (A-Z a-z 0-9 _)",
    ),
    (
        "secret without a place",
        "budget: 2.00",
        "secrets: {WANDB_API_KEY: }",
        "F:10: secrets.WANDB_API_KEY: it has no place: write where it is kept, such as"
        " ssm:/team/wandb",
    ),
    (
        "secret of a mistyped place",
        "budget: 2.00",
        "secrets: {WANDB_API_KEY: secretmanager:wandb}",
        f"F:10: secrets.WANDB_API_KEY: expected {PLACES}; did you mean secretsmanager:?",
    ),
    (
        "secret of an unknown place",
        "budget: 2.00",
        "secrets: {WANDB_API_KEY: vault:team/wandb}",
        "F:10: secrets.WANDB_API_KEY: it begins with none of the places that are known: expected"
        f" {PLACES}",
    ),
    (
        "secret by a broken ARN",
        "budget: 2.00",
        'secrets: {WANDB_API_KEY: "secretsmanager:arn:aws:secretsmanager:us-east-1:secret:wandb"}',
        "F:10: secrets.WANDB_API_KEY: expected the ARN of a secret, such as secretsmanager:"
        "arn:aws:secretsmanager:us-east-1:111122223333:secret:wandb-a1b2c3",
    ),
    (
        "secret by a path that does not begin",
        "budget: 2.00",
        "secrets: {WANDB_API_KEY: ssm:team/wandb}",
        "F:10: secrets.WANDB_API_KEY: expected the name of a parameter, such as ssm:/team/wandb: a"
        " path begins with a slash and does not end with one, and has letters, digits and . - _",
    ),
    (
        "secret that the shell has not",
        "budget: 2.00",
        "secrets: {WANDB_API_KEY: env:SPOTRUNNER_TESTS_HAVE_NONE}",
        "F:10: secrets.WANDB_API_KEY: SPOTRUNNER_TESTS_HAVE_NONE is not set in your shell; export"
        " SPOTRUNNER_TESTS_HAVE_NONE=… before you submit",
    ),
    (
        "secret of no variable",
        "budget: 2.00",
        'secrets: {WANDB_API_KEY: "env:"}',
        "F:10: secrets.WANDB_API_KEY: expected env:NAME, a variable of your shell (A-Z a-z 0-9 _)",
    ),
    (
        "secret in another form",
        "budget: 2.00",
        "secrets: {HF: {from: ssm:/hf, as: volume}}",
        "F:10: secrets.HF: as: expected env or file",
    ),
    (
        "secret with a key too many",
        "budget: 2.00",
        "secrets: {HF: {from: ssm:/hf, value: hunter2-hunter2}}",
        "F:10: secrets.HF: expected its place, or {from: PLACE, as: file}",
    ),
    (
        "secret that is plain text as well",
        "budget: 2.00",
        "envs: {HF: hunter2-hunter2}\nsecrets: {HF: ssm:/hf}",
        "F:11: secrets: HF: it is in envs as well: take the plain text out of there",
    ),
    (
        "secret of a reserved name",
        "budget: 2.00",
        "secrets: {SPOTRUNNER_JOB: ssm:/hf}",
        "F:10: secrets.SPOTRUNNER_JOB: SPOTRUNNER_JOB is set by spotrunner itself: choose another"
        " name",
    ),
]
