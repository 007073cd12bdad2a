"""Requests of a server to its client (sampling, elicitation, roots), on their way to the client that is meant.

A question belongs to a call in flight at the server: to the one whose event stream it came on; else, as nothing in it
names one, to the calls of the one client that has any. That call's own task passes it on and tells what becomes of
it. Nobody waits for the answer: it is handed to the server's channel in the very step in which it arrives, and when
the call ends, its questions end with it. So there is no task here, and no time limit but the call's.
"""

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable

from edge.errors import RpcError
from edge.parts.channel import Notify, PromptCaller
from edge.proto.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Id,
    Notification,
    Request,
    Response,
    encode_error,
    encode_request,
    encode_result,
)
from edge.proto.jsontext import Raw, quote, replace_members
from edge.proto.mcp import CANCELLED, cancelled_id

MAX_OPEN = 16  # of one session
MAX_NOTES = 256  # kept for one caller that is slow to take them
MAX_NOTE_CHARS = 1_048_576  # the same in letters; one may be longer


class Question:
    """One of them. `id` is ours, towards the client; `is_open` until it is answered, taken back or dropped."""

    __slots__ = (
        "_answers", "_book", "caller", "id", "is_asked", "is_bound", "is_open", "is_sent", "request",
    )  # fmt: skip

    def __init__(self, request: Request, caller: "Caller", book: "Questions", *, is_bound: bool) -> None:
        self.request = request
        self.caller = caller
        self.is_bound = is_bound  # to this very call
        self.id: Id = ""
        self.is_open = True
        self.is_asked = False  # it is on its way to the client, who has to hear if it is over
        self.is_sent = False  # and has left whole
        self._book = book
        self._answers: Unanswered | None = None

    @property
    def text(self) -> str:
        """For the client."""
        params = self.request.params
        return encode_request(self.id, self.request.method, None if params is None else params.text)

    def opened(self, answers: "Unanswered", question_id: Id) -> None:
        self._answers, self.id = answers, question_id

    def answered(self, response: Response) -> None:
        """By the client: letter for letter to the server."""
        error = response.error
        if error is not None:
            text = encode_error(self.request.id, error.code, error.message, error.data)
        else:
            assert response.result is not None  # an answer has one or the other
            text = encode_result(self.request.id, response.result.text)
        self.end()
        self._book.reply(self.caller, text)

    def drop(self, reason: str) -> None:
        """Nobody will answer it."""
        self.end()
        self._book.reply(self.caller, encode_error(self.request.id, INTERNAL_ERROR, reason))

    def end(self) -> None:
        self.is_open = False
        self._book.forget(self)
        if self._answers is not None:
            self._answers.forget(self)


class Unanswered:
    """What the client of one session has been asked and has not answered yet. At most MAX_OPEN."""

    __slots__ = ("_last", "_open")

    def __init__(self) -> None:
        self._last = 0
        self._open: dict[Id, Question] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, question: Question) -> None:
        """Gives it its id. Raises RpcError if there are too many."""
        if len(self._open) >= MAX_OPEN:
            raise RpcError(
                INTERNAL_ERROR, f"the client has {MAX_OPEN} requests to answer already", '{"reason":"limit"}'
            )
        self._last += 1
        question.opened(self, f'"ask-{self._last}"')
        self._open[question.id] = question

    def answered(self, response: Response) -> None:
        """To what is not open, it changes nothing."""
        question = self._open.get(response.id) if response.id is not None else None
        if question is not None:
            question.answered(response)

    def forget(self, question: Question) -> None:
        self._open.pop(question.id, None)


class Askable(PromptCaller):
    """A `notify` whose client may be asked something."""

    __slots__ = ()

    @property
    @abstractmethod
    def client(self) -> object:
        """Who that is: the same object for all calls of one client. None: nobody who could be told from others."""

    @property
    @abstractmethod
    def may_be_asked(self) -> bool:
        """There is something that it could be asked."""

    @abstractmethod
    def open(self, question: Question) -> None:
        """Take it in; raises RpcError if it cannot be asked of this client."""

    @abstractmethod
    async def ask(self, question: Question) -> None:
        """Send it, in the call's own task. Never raises for a client that has gone."""

    @abstractmethod
    def dropped(self, question: Question, reason: str) -> None:
        """The call ends, and with it the question, which has been sent: its client is to be told. Synchronous."""


class Caller:
    """A request in flight at a server, as its channel keeps it: what its own task has to pass on to its client."""

    __slots__ = ("_note_chars", "notes", "notify", "questions")

    def __init__(self, notify: Notify | None) -> None:
        self.notify = notify
        self.notes: deque[Notification | Question] = deque()
        self._note_chars = 0
        self.questions: list[Question] | None = None  # that belong to it

    def nudge(self) -> None:
        """Have its task look for what there is to pass on."""
        raise NotImplementedError

    def offer(self, note: Notification | Question) -> bool:
        """Hand it over, from any task; never waits. False if older ones were lost by it: newer progress says all."""
        self.notes.append(note)
        self._note_chars += size_of(note)
        has_room = True
        while len(self.notes) > MAX_NOTES or (self._note_chars > MAX_NOTE_CHARS and len(self.notes) > 1):
            has_room = False
            oldest = self._next_note()
            if isinstance(oldest, Question) and oldest.is_open:
                oldest.drop("the client is too slow to be asked")
        self.nudge()
        return has_room

    def _next_note(self) -> Notification | Question:
        note = self.notes.popleft()
        self._note_chars -= size_of(note)
        return note

    async def pass_on(self) -> None:
        """In its own task: all that is there. No checkpoint after the last one."""
        notify = self.notify
        while self.notes and notify is not None:
            note = self._next_note()
            if isinstance(note, Notification):
                await notify(note)
            elif note.is_open and isinstance(notify, Askable):
                note.is_asked = True
                await notify.ask(note)
                note.is_sent = True


def size_of(note: Notification | Question) -> int:
    """Its letters, as they are kept."""
    params = note.params if isinstance(note, Notification) else note.request.params
    return 0 if params is None else len(params.text)


class Questions:
    """Those of one server that are open.

    `callers` gives the requests that are in flight there, oldest first; `reply` takes the text of an answer, with
    the call that the question belongs to. Synchronous, all of it.
    """

    def __init__(self, callers: Callable[[], Iterable[Caller]], reply: Callable[[Caller, str], None]) -> None:
        self._callers = callers
        self.reply = reply
        self._open: dict[Id, Question] = {}

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, request: Request, caller: Caller | None = None) -> None:
        """Have `request` passed on: to the client of `caller`, if that is known. Raises RpcError to refuse it."""
        if request.id in self._open:
            raise RpcError(INVALID_REQUEST, "a request with this id is open already")
        found = one_client(self._callers() if caller is None else (caller,))
        question = Question(request, found, self, is_bound=caller is not None)
        assert isinstance(found.notify, Askable)
        found.notify.open(question)
        self._open[request.id] = question
        self._give(question, found)
        found.offer(question)

    def taken_back(self, note: Notification) -> bool:
        """Whether the server's notifications/cancelled is about one of them: then the client hears it as well."""
        if not self._open or note.params is None:
            return False
        question = self._open.get(cancelled_id(note.params.text) or "")
        if question is None:
            return False
        question.end()
        if question.is_asked:
            told = replace_members(note.params.text, {"requestId": question.id})
            question.caller.offer(Notification(CANCELLED, Raw(told, None)))
        return True

    def left(self, caller: Caller) -> None:
        """It is not in flight any more. What was not asked for its sake alone goes on with its client's others."""
        questions, caller.questions = caller.questions or [], None
        for question in questions:
            if not question.is_open:
                continue
            is_torn = question.is_asked and not question.is_sent
            heir = None if question.is_bound or is_torn else self._another(caller)
            if heir is not None:
                question.caller = heir
                self._give(question, heir)
                if not question.is_asked:
                    heir.offer(question)
                continue
            question.drop("the call that this belongs to has ended")
            if question.is_asked and isinstance(caller.notify, Askable):
                caller.notify.dropped(question, "the call that this belongs to has ended")

    def forget(self, question: Question) -> None:
        self._open.pop(question.request.id, None)

    def _give(self, question: Question, caller: Caller) -> None:
        caller.questions = [each for each in caller.questions or () if each.is_open]
        caller.questions.append(question)

    def _another(self, caller: Caller) -> Caller | None:
        """A call of the same client by which it can be reached."""
        assert isinstance(caller.notify, Askable)
        for other in self._callers():
            notify = other.notify
            is_same = isinstance(notify, Askable) and notify.client is caller.notify.client
            if is_same and other is not caller and isinstance(notify, Askable) and notify.may_be_asked:
                return other
        return None


def one_client(callers: Iterable[Caller]) -> Caller:
    """The call by which to ask: the newest of the one client that has any, if one has. Raises RpcError."""
    found: Caller | None = None
    client: object = None
    for caller in callers:
        notify = caller.notify
        if not isinstance(notify, Askable):
            continue  # a request of our own
        if found is None:
            found, client = caller, notify.client
        elif notify.client is not client:
            text = "calls of several clients are in flight: which of them is to be asked cannot be told"
            raise RpcError(METHOD_NOT_FOUND, text)
        elif notify.may_be_asked:
            found = caller
    if found is None:
        raise RpcError(METHOD_NOT_FOUND, "no call of a client is in flight: there is nobody to ask")
    return found


def cancelled_note(question: Question, reason: str) -> Notification:
    """What its client is told when it is over without an answer."""
    params = f'{{"requestId":{question.id},"reason":{quote(reason)}}}'
    return Notification(CANCELLED, Raw(params, None))
