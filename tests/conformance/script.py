"""The language of the scripts: one command a line, with markers for replies that may legally differ.

    # comment
    == name               a new group: empty databases, new connections
    @args --directive x   (first lines of a file) extra directives for both servers
    SET key "a\\x00b"      words as in redis-cli: "..." with escapes, '...' without
    SET key %rep(ab,500)  500 times `ab`, anywhere in a word;  %seq(e,300) is the 300 words e1 .. e300
    @sorted KEYS *        order does not matter (of the outermost array)
    @unordered ...        order does not matter at any depth
    @near 50 PTTL key     integers may differ by 50
    @kind RANDOMKEY       only the kind of reply is compared
    @error SET a          only the first word of the error is compared
    @has a,b INFO         both replies contain these words
    @only a,b CLIENT INFO only the fields a=... or a:... of the text are compared
    @quiet ...            no reply is expected (CLIENT REPLY OFF)
    @scan SCAN 0 COUNT 3  iterated to the end; the set of all elements is compared
    @on b                 the following lines go over connection `b`
    @sleep 20             both servers rest for 20 ms
    @raw "PI" "NG\\r\\n"    these bytes, in these pieces, over a connection of their own
    @ours FARMEM STATS    sent to Remora alone; must not answer with an error
"""
import re
from dataclasses import dataclass, field

from resp import Items, Text, parse

MARKS = {"sorted": 0, "unordered": 0, "near": 1, "kind": 0, "error": 0, "has": 1, "only": 1, "quiet": 0,
         "scan": 0, "on": 1, "sleep": 1, "raw": 0, "ours": 0}
ESCAPES = {"n": 10, "r": 13, "t": 9, "b": 8, "a": 7}
REPEAT = re.compile(r"%rep\((.+?),(\d+)\)")
WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'|(\S+)', re.S)


@dataclass
class Step:
    """One line: its marker, the marker's argument, and the words of the command."""

    where: str
    text: str
    mark: str = ""
    option: str = ""
    words: list = field(default_factory=list)


@dataclass
class Group:
    """Steps that start from empty databases."""

    name: str
    steps: list = field(default_factory=list)


def unescape(text):
    out, at = bytearray(), 0
    data = text.encode()
    while at < len(data):
        if data[at] != 0x5C or at + 1 == len(data):
            out.append(data[at])
            at += 1
        elif data[at + 1 : at + 2] == b"x" and re.fullmatch(rb"[0-9a-fA-F]{2}", data[at + 2 : at + 4]):
            out.append(int(data[at + 2 : at + 4], 16))
            at += 4
        else:
            out.append(ESCAPES.get(chr(data[at + 1]), data[at + 1]))
            at += 2
    return bytes(out)


def split(line):
    """The words of a line, as bytes."""
    words = []
    for double, single, plain in WORD.findall(line):
        if plain:
            if made := re.fullmatch(r"%seq\((.*),(\d+)\)", plain):
                words += [b"%s%d" % (made[1].encode(), n) for n in range(1, int(made[2]) + 1)]
            else:
                words.append(REPEAT.sub(lambda made: made[1] * int(made[2]), plain).encode())
        else:
            words.append(unescape(double) if double else single.replace("\\'", "'").encode())
    return words


def load(path):
    """The directives and the groups of a script file."""
    directives, groups = [], []
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            where = f"{path.name}:{number}"
            if line.startswith("=="):
                groups.append(Group(line[2:].strip()))
            elif line.startswith("@args"):
                directives += [word.decode() for word in split(line)[1:]]
            else:
                groups[-1].steps.append(step(line, where))
    return directives, groups


def step(line, where):
    """One line of a script."""
    made = Step(where, line)
    if line.startswith("@"):
        mark, _, line = line[1:].partition(" ")
        assert mark in MARKS, f"{where}: no marker @{mark}"
        made.mark = mark
        if MARKS[mark]:
            made.option, _, line = line.strip().partition(" ")
    made.words = split(line)
    return made


def same(mark, option, theirs, ours):
    """Whether two raw replies are the same under a marker."""
    if theirs == ours:
        return True
    if not mark or theirs is None or ours is None:
        return False
    a, b = parse(theirs), parse(ours)
    if a.kind != b.kind:
        return False
    match mark:
        case "sorted":
            return isinstance(a, Items) and isinstance(b, Items) and shuffled(a, 1) == shuffled(b, 1)
        case "unordered":
            return shuffled(a, 99) == shuffled(b, 99)
        case "near":
            return near(a, b, int(option))
        case "kind":
            return True
        case "error":
            return a.kind == b"-" and a.split(b" ")[0] == b.split(b" ")[0]
        case "has":
            return all(word.encode() in reply for word in option.split(",") for reply in (theirs, ours))
        case "only":
            return all(values(theirs, name) == values(ours, name) for name in option.split(","))
    return False


def values(raw, name):
    found = re.findall(rb"(?:^|[\s\n])" + name.encode() + rb"[=:]([^\s]*)", raw)
    assert found, f"the reply has no field {name}: {raw[:200]!r}"
    return found


def shuffled(node, depth):
    if isinstance(node, Text) or depth == 0:
        return flat(node)
    return (node.kind, sorted((shuffled(item, depth - 1) for item in node), key=repr))


def flat(node):
    return (node.kind, bytes(node) if isinstance(node, Text) else [flat(item) for item in node])


def near(a, b, tolerance):
    if a.kind != b.kind:
        return False
    if isinstance(a, Items):
        return len(a) == len(b) and all(near(x, y, tolerance) for x, y in zip(a, b))
    if a == b:
        return True
    number = re.compile(rb"-?\d+")
    return bool(number.fullmatch(a) and number.fullmatch(b)) and abs(int(a) - int(b)) <= tolerance
