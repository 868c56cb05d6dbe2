"""Passwords of the account's registries of container images (ECR)."""

from __future__ import annotations

import base64

from spotrunner.adapters.aws.errors import by_meaning
from spotrunner.adapters.aws.session import Aws
from spotrunner.ports import NotAuthorized, RegistryLogin, Unavailable


class EcrRegistries:
    """Over ecr:GetAuthorizationToken, which has no resource: its policy says "*"."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def login(self, region: str) -> RegistryLogin:
        try:
            with by_meaning():
                answer = self._aws.ecr(region).get_authorization_token()
        except NotAuthorized as error:
            raise NotAuthorized(
                f"no password for the registries of {region}: grant the instances' role"
                f" ecr:GetAuthorizationToken ({error})"
            ) from error
        try:
            told = answer["authorizationData"][0]
            user, _, password = base64.b64decode(told["authorizationToken"]).decode().partition(":")
            return RegistryLogin(user=user, password=password, expires_at=told["expiresAt"])
        except (LookupError, ValueError) as error:
            raise Unavailable(f"no password in the answer of {region}'s registry") from error
