"""What Python and Node.js say of the C ABI is what `loom.h` says, and all have the version of the workspace."""

import importlib.util
import json
import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADER = re.sub(r"/\*.*?\*/", "", (ROOT / "bindings/c/include/loom.h").read_text(), flags=re.S)
NODE = (ROOT / "bindings/node/lib/abi.js").read_text()
INDEX = (ROOT / "bindings/node/lib/index.js").read_text()
TYPES = (ROOT / "bindings/node/lib/index.d.ts").read_text()

specification = importlib.util.spec_from_file_location("abi", ROOT / "bindings/python/loom/_abi.py")
python = importlib.util.module_from_spec(specification)
specification.loader.exec_module(python)
PYTHON = (ROOT / "bindings/python/loom/__init__.py").read_text()

# how C, ctypes and koffi call one type
TYPES_OF = {
    "size_t": ("c_ulong", "size_t"), "int32_t": ("c_int", "int32_t"), "uint32_t": ("c_uint", "uint32_t"), "uint16_t": ("c_ushort", "uint16_t"),
    "int64_t": ("c_long", "int64_t"), "uint64_t": ("c_ulong", "uint64_t"), "double": ("c_double", "double"),
}
# what the packages have no use for
NOT_IN_PYTHON = {"loom_pusher_give_packet"}
NOT_IN_NODE = NOT_IN_PYTHON | {"loom_log_set", "loom_recording_wait", "loom_engine_config_init", "loom_bytes_size"}


def split(inside):
    return [] if inside.strip() in ("", "void") else [it.strip() for it in inside.split(",")]


def calls():
    """name: what it returns, what it takes."""
    flat = re.sub(r"\s+", " ", HEADER)
    found = re.findall(r"((?:const )?\w+ \**)(loom_\w+)\(([^()]*)\);", flat)
    return {name: (gives.strip(), [re.sub(r"\w+$", "", it).strip() for it in split(takes)]) for gives, name, takes in found}


def structs():
    """name: (field, its type, how many)."""
    found = {}
    for body, name in re.findall(r"typedef struct \{([^}]*)\} (loom_\w+);", HEADER):
        fields = re.findall(r"([\w ]+[\w*] ?\**)\b(\w+)(?:\[(\d+)\])?;", body)
        found[name] = [(field, kind.strip(), int(many or 1)) for kind, field, many in fields]
    return found


def values(prefix):
    """What the header's numbers of that prefix are called, by number."""
    found = {int(number): name.lower() for name, number in re.findall(rf"#define LOOM_{prefix}_(\w+) (\d+)", HEADER)}
    assert found, f"there is no LOOM_{prefix}_… in the header"
    return [found[number] for number in range(len(found))]


def kind_of(c):
    """What a C type is to a caller: a number of its width, or a pointer to some thing."""
    if c == "const char *":
        return "text"
    return TYPES_OF[c] if c in TYPES_OF else "pointer"


def kind_of_ctypes(it):
    """The same of ctypes."""
    if it is python.c_char_p:
        return "text"
    return next((kinds for kinds in TYPES_OF.values() if kinds[0] == it.__name__ and it.__name__ != "c_void_p"), "pointer")


def same(c, it):
    """Whether a parameter of C is what ctypes makes of it; text and bytes are both c_char_p."""
    wanted, got = kind_of(c), kind_of_ctypes(it)
    if got == "text":
        return wanted == "text" or c == "const uint8_t *"
    if isinstance(wanted, tuple) and isinstance(got, tuple):
        return wanted[0] == got[0]
    return wanted == got


def test_the_header_is_understood():
    assert len(calls()) > 50 and set(structs()) == {"loom_engine_config", "loom_track", "loom_picture"}
    assert calls()["loom_recording_wait"] == ("loom_result", ["const loom_recording *", "uint32_t", "int32_t *"])
    assert structs()["loom_picture"] == [("planes", "const uint8_t *", 3), ("strides", "size_t", 3)]


def test_python_makes_every_call_as_the_header_says():
    said = {**{name: (None, takes) for name, takes in python.CALLS.items()}, **python.OTHERS}
    assert set(said) == set(calls()) - NOT_IN_PYTHON
    for name, (gives, takes) in calls().items():
        if name in NOT_IN_PYTHON:
            continue
        assert (name in python.CALLS) == (gives == "loom_result"), name
        assert len(said[name][1]) == len(takes), name
        for c, it in zip(takes, said[name][1]):
            c = {"loom_result": "int32_t"}.get(c, c)
            assert same(c, it), f"{name}: {c} is no {it}"
        if name in python.OTHERS:
            returns = python.OTHERS[name][0]
            assert (gives == "void") == (returns is None), name
            # what may have a NUL in it, or is read by its size, is a bare pointer
            assert returns in (None, python.c_void_p) or same(gives, returns), f"{name}: {gives} is no {returns}"


def test_node_makes_every_call_as_the_header_says():
    block = NODE[NODE.index("const CALLS"):NODE.index("const OTHERS")]
    made = {name: (takes, gives) for name, takes, gives in re.findall(r"(loom_\w+): \[\[(.*)\], \[([^\]]*)\]\],", block)}
    block = NODE[NODE.index("const OTHERS"):NODE.index("const OUT")]
    others = {name: (returns, takes) for name, returns, takes in re.findall(r"(loom_\w+): \[([\w\"]+), \[([^\]]*)\]\],", block)}
    assert set(made) | set(others) == set(calls()) - NOT_IN_NODE
    names = dict(re.findall(r"(\w+) = (\"[^\"]+\")", NODE[NODE.index("const OBJECT"):NODE.index("const CALLS")]))

    def koffi(it):
        it = names.get(it, it).strip('"')
        return "pointer" if it.endswith("*") or it.startswith("koffi.") else {"str": "text"}.get(it, it)

    def c(it):
        return kind_of(it)[1] if isinstance(kind_of(it), tuple) else kind_of(it)

    for name, (gives, takes) in calls().items():
        if name in NOT_IN_NODE:
            continue
        assert (name in made) == (gives == "loom_result"), name
        if name in made:
            said = [koffi(it) for it in split(made[name][0])] + ["pointer"] * len(split(made[name][1]))
        else:
            said = [koffi(it) for it in split(others[name][1])]
        wanted = [c({"loom_result": "int32_t"}.get(it, it)) for it in takes]
        # a callback that is not set is a pointer too
        assert said == wanted, f"{name}: {said} is not {wanted}"


def test_structs_have_the_fields_of_the_header_in_their_order():
    for name, of in (("loom_engine_config", python.EngineConfig), ("loom_track", python.Track), ("loom_picture", python.Picture)):
        fields = structs()[name]
        assert [field for field, _ in of._fields_] == [field for field, _, _ in fields], f"Python's {name}"
        for (field, kind, many), (_, made) in zip(fields, of._fields_):
            assert getattr(made, "_length_", 1) == many, f"Python's {name}.{field}"
            assert many > 1 or same(kind, made), f"Python's {name}.{field}"
        body = NODE[NODE.index(f'koffi.struct("{name}"'):].split("});")[0]
        said = re.findall(r"^  (\w+): (?:koffi\.array\()?\"([^\"]+)\"(?:, (\d+)\))?,", body, flags=re.M)
        wanted = [(field, "str" if kind == "const char *" else kind, many) for field, kind, many in fields]
        assert [(field, kind, int(many or 1)) for field, kind, many in said] == wanted, f"Node's {name}"


def test_numbers_have_the_names_of_the_header():
    results = {name: int(number) for name, number in re.findall(r"#define LOOM_(OK|TIMEOUT|END|BEHIND|ABI_VERSION) (\d+)", HEADER)}
    assert len(results) == 5
    for name, number in results.items():
        assert getattr(python, name) == number, name
        assert re.search(rf"\b{name} = {number}\b", NODE), f"Node's {name}"
    quoted = lambda names: ", ".join(f'"{name}"' for name in names)
    union = lambda names: " | ".join(f'"{name}"' for name in names)
    table = lambda names, text: ", ".join(f"{name}: {at}" for at, name in enumerate(names)) in text
    states = values("STATE")
    assert f"({quoted(states)})" in PYTHON and f"Literal[{quoted(states)}]" in PYTHON
    assert f"const STATES = [{quoted(states)}];" in INDEX and f"type State = {union(states)};" in TYPES
    for prefix in ("CAPTIONS", "TRANSCRIPT", "CLASS", "LADDER"):
        names = values(prefix)
        assert quoted(names) in PYTHON, f"Python's {prefix}"
        assert union(names) in TYPES, f"the types of Node's {prefix}"
        assert quoted(names) in INDEX or table(names, INDEX), f"Node's {prefix}"
        # captions come out by their place; what goes in does so by its number
        assert prefix == "CAPTIONS" or table([f'"{name}"' for name in names], PYTHON), f"Python's numbers of {prefix}"
    off, *schemes = values("ENCRYPTION")
    assert off == "off" and union(schemes) in TYPES and quoted(schemes) in PYTHON
    for at, name in enumerate(schemes, 1):
        assert f'"{name}": {at}' in PYTHON and f"{name}: {at}" in INDEX, name
    kinds = values("TRACK")
    assert table(kinds, INDEX)
    assert f"_KINDS = ({', '.join(name.capitalize() for name in kinds)})" in PYTHON
    assert re.findall(r'\{ kind: "(\w+)"', TYPES[TYPES.index("export type Track ="):]) == kinds


def test_both_packages_use_every_call():
    node = INDEX + NODE[NODE.index("const read ="):] + (ROOT / "bindings/node/lib/handle.js").read_text() + "loom_abi_version"
    # Python asks for what an answer has by names that it puts together
    python_made = PYTHON + " loom_abi_version " + " ".join(name for name in calls() if name.startswith("loom_response_"))
    for name in calls():
        assert name in NOT_IN_PYTHON or re.search(rf"\b{name}\b", python_made), f"Python has no use for {name}"
        assert name in NOT_IN_NODE or re.search(rf"\b{name}\b", node), f"Node has no use for {name}"


def test_each_kind_of_event_is_named_in_the_header_and_has_a_type():
    source = (ROOT / "crates/loom-engine/src/event.rs").read_text()
    kinds = re.findall(r"^    (\w+)[ ({]", source[source.index("pub enum Event {"):].split("\n}\n")[0], flags=re.M)
    assert "State" in kinds and len(kinds) > 8, kinds
    documented = (ROOT / "bindings/c/include/loom.h").read_text()
    for kind in map(str.lower, kinds):
        assert f'event: "{kind}"' in TYPES, f"the types of Node have no event {kind}"
        assert f"`{kind}`" in documented, f"loom_events_next says nothing of {kind}"


def test_packages_have_the_version_of_the_workspace():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    assert tomllib.loads((ROOT / "bindings/python/pyproject.toml").read_text())["project"]["version"] == version
    assert json.loads((ROOT / "bindings/node/package.json").read_text())["version"] == version
