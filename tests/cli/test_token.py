"""`edge-agent token`: what it shows lets in, and only the hash is for the configuration."""

import json

from click.testing import CliRunner

from agent.api.callers import Role
from agent.api.rates import Account
from agent.api.settings import ApiSettings
from agent.api.tokens import Tokens
from agent.cli.token import token


def test_the_token_and_its_entry_belong_together() -> None:
    done = CliRunner().invoke(token, ["--role", "operator", "--json"])
    made = json.loads(done.output)
    settings = ApiSettings(tcp="127.0.0.1:8000", tokens=(made["entry"],))
    caller = Tokens(settings.tokens, Account).caller(f"Bearer {made['token']}".encode())
    assert caller is not None
    assert caller.role is Role.OPERATOR
    assert made["token"] not in made["entry"]


def test_for_a_person_it_says_where_each_part_goes() -> None:
    output = CliRunner().invoke(token, []).output
    assert "Bearer" in output
    assert 'tokens = ["app:' in output
