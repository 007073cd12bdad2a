"""A service that a hub asks whose token it is (`[hub.webhook]`): it knows what it is given."""

import json
from collections.abc import Mapping

from tests.support.http_server_toys import Answer, Got, ToyServer


class TokenService(ToyServer):
    """`names` by token. Its connections stay open for further questions."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__(self._judge)
        self._names = names

    async def _judge(self, got: Got, answer: Answer) -> None:
        name = self._names.get(got.message["token"])
        if name is None:
            await answer.send(401)
        else:
            await answer.send(200, body=json.dumps({"edge": name}).encode())
