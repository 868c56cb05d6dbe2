"""The settings file: what it means, and the exact words for everything that can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from spotrunner.adapters.advisor import URL
from spotrunner.core.caps import UNCAPPED, Bound
from spotrunner.core.located import BadFile
from spotrunner.core.model import Limits
from spotrunner.daemon.settings import ADVISOR_URL, parse_settings, read_settings

LEAST = """\
home: {bucket: my-spotrunner, region: us-east-1}
regions: [us-east-1, us-west-2]
state_dir: state
"""

FULL = """\
home:
  bucket: my-spotrunner
  region: us-east-1
regions: [us-east-1]
endpoint_url: http://127.0.0.1:5000
state_dir: /var/lib/spotrunner
api: {host: "::1", port: 0, token_file: secrets/token}
tick_s: 0.5
prices_every_s: 60
types: [g5.xlarge, p3.2xlarge]
scores_every_s: 3600
advisor: false
instance_profile: null
security_groups: [sg-0123, default]
amis:
  us-east-1: {p3: ami-0123456789abcdef0, g5.xlarge: ami-01234567}
limits: {step_s: 600, lost_s: 300}
"""

BAD = """\
home:
  bucket: My_Bucket
  regoin: us-east-1
regions: [us-east-1, us-est-2, us-east-1a]
endpoint_url: localhost:5000
state_dir: 5
api: {host: 0.0.0.0, port: 99999, tokenfile: x}
tick_s: soon
prices_every_s: 0
types: [g5.xlarg, g4ad.xlarge]
scores_every_s: -1
advisor: 1
advisor_url: spot-bid-advisor
security_groups: sg-1
amis:
  us-east-1: {p3: ami-xyz, p9: ami-01234567, g4ad.xlarge: ami-01234567}
limits:
  intents_s: 10
  lost_s: true
  done_s: 1.5
instance_profil: x
"""

BAD_WORDS = """\
daemon.yaml:1: home.region: missing
daemon.yaml:2: home.bucket: expected the name of an S3 bucket (3 to 63 of a-z 0-9 . -), \
found 'My_Bucket'
daemon.yaml:3: home.regoin: unknown key; did you mean region?
daemon.yaml:4: regions.1: us-est-2 is not an AWS region; nearest: us-east-2
daemon.yaml:4: regions.2: us-east-1a is a zone, not a region; its region is us-east-1
daemon.yaml:5: endpoint_url: expected http://HOST:PORT or https://HOST, found 'localhost:5000'
daemon.yaml:6: state_dir: expected a path, found 5
daemon.yaml:7: api.host: expected a loopback address such as 127.0.0.1, found '0.0.0.0': \
the API has no TLS; reach it from elsewhere through ssh -L
daemon.yaml:7: api.port: expected at most 65535, found 99999
daemon.yaml:7: api.tokenfile: unknown key; did you mean token_file?
daemon.yaml:8: tick_s: expected a number, found 'soon'
daemon.yaml:9: prices_every_s: expected more than 0, found 0
daemon.yaml:10: types.0: g5.xlarg is not a GPU instance type that is known here; nearest: g5.xlarge
daemon.yaml:10: types.1: g4ad.xlarge cannot be used: its GPU is AMD's, and TensorFlow's builds \
here need CUDA; the nearest is g4dn.xlarge
daemon.yaml:11: scores_every_s: expected more than 0, found -1
daemon.yaml:12: advisor: expected true or false, found 1
daemon.yaml:13: advisor_url: expected http://HOST:PORT or https://HOST, found 'spot-bid-advisor'
daemon.yaml:14: security_groups: expected a list, found 'sg-1'
daemon.yaml:16: amis.us-east-1.p3: expected an image id such as ami-0123456789abcdef0, \
found 'ami-xyz'
daemon.yaml:16: amis.us-east-1.p9: p9 is no family of GPU instance types; \
known: g4dn, g5, g6, g6e, p3, p3dn, p4d, p4de, p5, p5en
daemon.yaml:16: amis.us-east-1.g4ad.xlarge: g4ad.xlarge cannot be used: its GPU is AMD's, and \
TensorFlow's builds here need CUDA; the nearest is g4dn.xlarge
daemon.yaml:18: limits.intents_s: unknown key; did you mean intent_s?
daemon.yaml:19: limits.lost_s: expected a whole number, found true
daemon.yaml:20: limits.done_s: expected a whole number, found 1.5
daemon.yaml:21: instance_profil: unknown key; did you mean instance_profile?"""


def test_three_keys_are_enough(tmp_path: Path) -> None:
    settings = parse_settings(LEAST, "daemon.yaml", tmp_path)
    assert settings.home.bucket == "my-spotrunner"
    assert settings.regions == ("us-east-1", "us-west-2")
    assert settings.database == tmp_path / "state" / "spotrunner.sqlite"
    assert settings.address_file == tmp_path / "state" / "api.json"
    assert settings.api.token_file == tmp_path / "state" / "api-token"
    assert (settings.api.host, settings.api.port) == ("127.0.0.1", 7420)
    assert settings.instance_profile == "spotrunner-agent"
    assert settings.limits == Limits()
    assert settings.types == ("g4dn.xlarge", "g5.xlarge", "g6.xlarge", "g6e.xlarge")
    assert settings.scores_every_s == 6 * 3600
    assert settings.advisor_url == ADVISOR_URL == URL


def test_every_key_is_taken(tmp_path: Path) -> None:
    settings = parse_settings(FULL, "daemon.yaml", tmp_path)
    assert settings.endpoint_url == "http://127.0.0.1:5000"
    assert settings.state_dir == Path("/var/lib/spotrunner")
    assert settings.api.token_file == tmp_path / "secrets" / "token"
    assert (settings.tick_s, settings.prices_every_s) == (0.5, 60)
    assert settings.types == ("g5.xlarge", "p3.2xlarge")
    assert settings.scores_every_s == 3600
    assert settings.advisor_url is None
    assert settings.instance_profile is None
    assert settings.security_groups == ("sg-0123", "default")
    assert settings.amis["us-east-1"]["g5.xlarge"] == "ami-01234567"
    assert settings.limits == Limits(step_s=600, lost_s=300)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadFile) as caught:
        parse_settings(BAD, "daemon.yaml", tmp_path)
    assert str(caught.value) == BAD_WORDS


def test_a_region_named_twice_is_refused(tmp_path: Path) -> None:
    text = LEAST.replace("us-west-2", "us-east-1")
    with pytest.raises(BadFile, match="regions: named twice: us-east-1"):
        parse_settings(text, "daemon.yaml", tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(BadFile) as caught:
        read_settings(path)
    assert str(caught.value) == f"{path}: No such file or directory"


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "daemon.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadFile, match="not UTF-8"):
        read_settings(path)


def test_a_list_of_wrong_items_is_not_called_short_as_well(tmp_path: Path) -> None:
    with pytest.raises(BadFile) as caught:
        parse_settings(LEAST.replace("[us-east-1, us-west-2]", "[mars]"), "d", tmp_path)
    assert str(caught.value) == "d:2: regions.0: mars is not an AWS region"


def test_a_region_without_prices_is_refused_wherever_it_is_named(tmp_path: Path) -> None:
    text = LEAST.replace("us-west-2", "us-gov-west-1").replace("us-east-1}", "cn-north-1}")
    with pytest.raises(BadFile) as caught:
        parse_settings(text, "d", tmp_path)
    why = "for which AWS's price list has no prices, so that no budget could be kept there"
    assert str(caught.value) == (
        f"d:1: home.region: cn-north-1 cannot be used: it belongs to AWS China, {why}\n"
        f"d:2: regions.1: us-gov-west-1 cannot be used: it belongs to AWS GovCloud, {why}"
    )


def test_no_types_at_all_leave_only_the_jobs_own(tmp_path: Path) -> None:
    text = LEAST + "types: []\nadvisor_url: http://127.0.0.1:5000/advisor.json\n"
    settings = parse_settings(text, "d", tmp_path)
    assert settings.types == ()
    assert settings.advisor_url == "http://127.0.0.1:5000/advisor.json"


def test_a_type_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"types: named twice: g5\.xlarge"):
        parse_settings(LEAST + "types: [g5.xlarge, g5.xlarge]\n", "d", tmp_path)


# -- budgets -----------------------------------------------------------------------------------

BUDGETS = """\
budgets:
  tz: Asia/Shanghai
  total: 500
  day: 40.50
  owners:
    alice: {total: 100, day: "10"}
    bob: {}
  each_owner: {day: 20}
"""


def test_budgets_bound_the_installation_and_its_owners(tmp_path: Path) -> None:
    caps = parse_settings(LEAST + BUDGETS, "d", tmp_path).caps
    assert caps.tz == "Asia/Shanghai"
    assert caps.installation == Bound(total_usd_micros=500_000_000, day_usd_micros=40_500_000)
    assert caps.owner("alice") == Bound(total_usd_micros=100_000_000, day_usd_micros=10_000_000)
    assert caps.owner("bob") == Bound()
    assert caps.owner("anybody") == Bound(day_usd_micros=20_000_000)


def test_without_budgets_nothing_is_bound(tmp_path: Path) -> None:
    assert parse_settings(LEAST, "d", tmp_path).caps == UNCAPPED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("total: 0", "total: expected more than 0 USD, found 0"),
        ("day: -1", "day: expected more than 0 USD, found -1"),
        ("day: 1e12", "day: expected at most 1000000000 USD, found 1E+12"),
        ("day: 0.0000001", "day: expected at most 6 decimals (of a USD), found 1E-7"),
        ("total: .nan", "total: expected a number, found nan"),
        ("total: true", "total: expected a number, found true"),
        ("total: 5 USD", "total: expected a number, found '5 USD'"),
        (
            "tz: Shanghai",
            'tz: "Shanghai" is no time zone that is known here: did you mean Asia/Shanghai?',
        ),
        ("tz: 8", "tz: expected text, found 8; put it in quotes"),
        (
            "owners: {Alice B: {day: 1}}",
            "owners.Alice B: expected 1 to 32 of a-z 0-9 -, starting with a letter, found"
            " 'Alice B'; nearest: alice-b",
        ),
        ("owners: {alice: 5}", "owners.alice: expected `key: value` lines, found 5"),
        ("owners: {alice: {day: 0}}", "owners.alice.day: expected more than 0 USD, found 0"),
        ("each_owner: {days: 5}", "each_owner.days: unknown key; did you mean day?"),
        ("totl: 5", "totl: unknown key; did you mean total?"),
    ],
)
def test_a_wrong_budget_has_its_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadFile) as caught:
        parse_settings(f"{LEAST}budgets:\n  {text}\n", "d", tmp_path)
    assert str(caught.value) == f"d:5: budgets.{words}"


@pytest.mark.parametrize(
    "key",
    [
        "alias/spotrunner",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "mrk-1234abcd12ab34cd56ef1234567890ab",
        "arn:aws:kms:us-east-1:111122223333:alias/spotrunner",
        "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    ],
)
def test_a_key_of_kms(tmp_path: Path, key: str) -> None:
    assert parse_settings(f"{LEAST}kms_key: {key}\n", "F", tmp_path).kms_key == key


def test_what_is_no_key_of_kms(tmp_path: Path) -> None:
    with pytest.raises(BadFile) as told:
        parse_settings(f"{LEAST}kms_key: spotrunner\n", "F", tmp_path)
    assert str(told.value) == (
        "F:4: kms_key: expected a key of KMS, such as alias/spotrunner, its id, or the ARN of"
        " either, found 'spotrunner'"
    )


# -- container images --------------------------------------------------------------------------

ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com"


def test_a_mirror_may_be_one_for_all_regions(tmp_path: Path) -> None:
    line = "image_mirror: 123456789012.dkr.ecr.{region}.amazonaws.com/docker-hub\n"
    assert parse_settings(LEAST + line, "d", tmp_path).image_mirrors == {
        "us-east-1": "123456789012.dkr.ecr.us-east-1.amazonaws.com/docker-hub",
        "us-west-2": "123456789012.dkr.ecr.us-west-2.amazonaws.com/docker-hub",
    }


def test_a_mirror_may_be_of_one_region(tmp_path: Path) -> None:
    line = f"image_mirror: {{us-east-1: {ECR}/hub}}\n"
    assert parse_settings(LEAST + line, "d", tmp_path).image_mirrors == {"us-east-1": f"{ECR}/hub"}
    assert parse_settings(LEAST, "d", tmp_path).image_mirrors == {}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (f"https://{ECR}/hub", f"expected {ECR}/hub, without https://"),
        (f"{ECR}/hub:1", "expected a registry and a path without a tag"),
        (f"{ECR}/hub/", "expected a registry and a path without a tag"),
        ("docker-hub/tensorflow", "docker would take docker-hub/tensorflow for a repository"),
        ("[a]", "expected a registry and a path, such as 123456789012.dkr.ecr.{region}"),
        (f"{{us-est-1: {ECR}}}", "us-est-1 is not an AWS region; nearest: us-east-1"),
        ("{us-east-1: 5}", "expected a registry and a path for us-east-1, such as"),
        ("{us-east-1: 'a.b/{region}'}", "expected a registry and a path for us-east-1, such as"),
    ],
)
def test_a_mirror_that_is_none_is_refused(tmp_path: Path, value: str, words: str) -> None:
    with pytest.raises(BadFile) as caught:
        parse_settings(f"{LEAST}image_mirror: {value}\n", "d", tmp_path)
    assert str(caught.value).startswith(f"d:4: image_mirror: {words}")
