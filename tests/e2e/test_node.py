"""The Node.js package as its README says to get it: packed and installed, with nothing of this repository beside it."""

import json
import os
import shutil
import subprocess

import pytest

import judges
from documented import documented, put_release
from material import film_mp4, spoken_film
from server import BINARY, MODEL, ROOT

PACKAGE = ROOT / "bindings" / "node"
OFFER = sorted((ROOT / "crates" / "loom-ingest" / "testdata" / "offers").glob("*.sdp"))[0]
TYPESCRIPT = "typescript@5.9.3"
QUICK = {"audit": "false", "fund": "false", "prefer_offline": "true"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder that has the package installed, and a compiler for TypeScript."""
    library = BINARY.parent / "libloom.so"
    assert library.exists(), "there is no C library: cargo build --workspace"
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("NO Node.js, or no npm: the package was not tried")
    tree = tmp_path_factory.mktemp("node")
    put_release(library, tree)
    # of a copy: what packing leaves behind is no file of the repository
    shutil.copytree(PACKAGE, tree / "bindings" / "node", ignore=shutil.ignore_patterns("libloom.so"))
    quick = {f"npm_config_{name}": value for name, value in QUICK.items()}
    variables = {**{key: value for key, value in os.environ.items() if key != "LOOM_LIBRARY"}, **quick}
    for line in (documented("bindings/node/README.md", "npm pack"), f"npm install {TYPESCRIPT}"):
        done = subprocess.run(["bash", "-c", line], cwd=tree, env=variables, capture_output=True, text=True, timeout=240)
        if done.returncode and "ENOTFOUND" in done.stderr + done.stdout:
            pytest.skip(f"koffi CANNOT BE HAD: {done.stderr[-300:]}")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    # what was installed stands for itself
    for used in ("bindings", "target"):
        shutil.rmtree(tree / used)
    return tree


def run(project, *command, **variables):
    variables = {**{key: value for key, value in os.environ.items() if key != "LOOM_LIBRARY"}, **variables}
    done = subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def node(project, program):
    """Runs a program that begins in an empty folder of its own."""
    (project / "program.mjs").write_text(program)
    return run(project, "node", "program.mjs")


def test_twenty_lines_turn_a_film_into_an_hls_folder_and_a_transcript(project, tmp_path):
    source = PACKAGE / "examples" / "film.mjs"
    assert len(source.read_text().splitlines()) <= 20
    shutil.copy(source, project)
    film = tmp_path / "film.mp4"
    subprocess.run(["ffmpeg", "-v", "error", "-i", film_mp4(), "-t", "10", "-c", "copy", film], check=True)
    model = {"LOOM_MODEL": str(MODEL)} if MODEL.exists() else {}
    said = run(project, "node", "film.mjs", film, tmp_path, **model)
    assert "media: " in said, said[-1000:]
    assert "transcript: 100%" in said or not MODEL.exists(), said[-1000:]
    assert film.exists(), "the film is copied, not taken"
    judges.decode(tmp_path / "hls" / "main.m3u8")
    first, end, _ = judges.span(tmp_path / "hls" / "main.m3u8")
    assert abs(end - first - 10) < 1, (first, end)
    if MODEL.exists():
        assert (tmp_path / "transcript.vtt").read_text().startswith("WEBVTT")
        assert (tmp_path / "transcript.txt").exists()


@pytest.mark.parametrize("program", ["film.mjs", "README.md"])
def test_a_film_without_sound_has_no_transcript_and_that_is_no_error(project, tmp_path, program):
    source = (PACKAGE / "README.md").read_text().split("```js\n")[1].split("```")[0]
    if program == "film.mjs":
        source = (PACKAGE / "examples" / program).read_text()
    subprocess.run(["ffmpeg", "-v", "error", "-i", film_mp4(), "-t", "3", "-an", "-c", "copy", tmp_path / "talk.mp4"], check=True)
    # a program finds the package beside it, and its files where it is run
    (project / "silent.mjs").write_text(source)
    model = {"LOOM_MODEL": str(MODEL)} if MODEL.exists() else {}
    run(tmp_path, "node", project / "silent.mjs", "talk.mp4", ".", **model)
    judges.decode(next(tmp_path.glob("*/main.m3u8")))
    assert not list(tmp_path.glob("transcript.*"))


# Pushes pictures and sound, asks for what players ask, and is wrong in some ways.
PUSH = """
import assert from "node:assert";
import { setTimeout as sleep } from "node:timers/promises";
import { Engine, LoomError, version } from "loom-video";

assert.match(version(), /^[0-9]+\\.[0-9]+\\.[0-9]+$/);
const engine = await Engine.start("pushed", { captions: false, ladder: "source", udp: "127.0.0.1:0", store: "memory:", encryption: "cbcs" });
const recording = engine.create("pushed");
const states = [], kinds = new Set();
const reader = (async () => {
  for await (const event of recording.events()) {
    kinds.add(event.event);
    if (event.event === "state") states.push(event.state);
  }
})();
for await (const event of recording.events()) break;

const pusher = await recording.push([{ kind: "pictures", width: 160, height: 120, frameRate: 25 }, { kind: "sound", channels: 1 }]);
const picture = Buffer.alloc(160 * 180, 128);
let held;
for (let number = 0; number < 75; number += 1) {
  picture.fill(60 + number, 0, 160 * 120);
  pusher.picture(0, 100 + number / 25, picture);
  assert(pusher.sound(1, 100 + number / 25, new Float32Array(1920).fill(0.1)));
  // an answer that waits for what is still to be pushed: so JavaScript has to go on meanwhile
  if (number === 10) held = recording.hls("main.m3u8");
  await sleep(40);
}
assert.strictEqual((await held).status, 200);
assert.throws(() => pusher.picture(0, 200, Buffer.from("x")), RangeError);
assert.throws(() => pusher.packet(0, 200, Buffer.from("x")), { name: "LoomError", code: "LOOM_ERROR_MEDIA" });
assert.strictEqual(pusher.wantsKeyFrame(0), false);
await assert.rejects(recording.wait(0.02), { code: "LOOM_TIMEOUT" });
await pusher.finish();
await reader;
assert.strictEqual(await recording.wait(1), "ready");
assert.throws(() => pusher.packet(0, 201, Buffer.from("x")), /closed/);

const answer = await recording.hls("main.m3u8");
assert(answer.status === 200 && Buffer.from(answer.body).toString().startsWith("#EXTM3U"), JSON.stringify(answer));
const part = await recording.hls("main.m3u8", null, "bytes=1-3");
assert.deepStrictEqual([part.status, Buffer.from(part.body).toString()], [206, "EXT"]);
assert.strictEqual(part.contentRange, `bytes 1-3/${answer.body.length}`);
const many = await Promise.all(Array.from({ length: 40 }, (_, at) => recording.hls(at % 2 ? "main.m3u8" : "nothing")));
assert.deepStrictEqual([...new Set(many.map(it => it.status))].sort(), [200, 404]);
const playlist = await recording.hls("source/index.m3u8");
assert(Buffer.from(playlist.body).toString().includes("METHOD=SAMPLE-AES"), "it is encrypted");
await recording.stored();
assert.strictEqual(recording.patch("nobody", "*", "a=mid:0").status, 404);
await assert.rejects(recording.publish("no offer"), error => error instanceof LoomError && error.code.startsWith("LOOM_ERROR_"));
// errors that come at the same time on several threads keep their own words
const names = Array.from({ length: 20 }, (_, at) => `nobody-${at}`);
const errors = await Promise.all(names.map(name => engine.open(name).catch(error => error)));
errors.forEach((error, at) => assert(error.code === "LOOM_ERROR_NOT_FOUND" && error.message.includes(`${names[at]} `), error.message));
assert.throws(() => engine.create("No Name"), { code: "LOOM_ERROR_ARGUMENT" });
assert.throws(() => engine.create("a\\0b"), TypeError);
console.log(JSON.stringify({ states, kinds: [...kinds].sort(), duration: recording.info().duration, id: recording.id }));
await Promise.all([recording.info().id && recording.hls("main.m3u8"), recording.close(), recording.close()]);
await engine.close();
assert.throws(() => engine.create(), /closed/);
"""


def test_what_javascript_pushes_is_a_stream_and_its_events_come_while_it_does(project):
    told = json.loads(node(project, PUSH).splitlines()[-1])
    assert told["states"][-1] == "ready" and "live" in told["states"], told
    assert {"state", "tracks", "renditions"} <= set(told["kinds"]), told
    assert abs(told["duration"] - 3) < 0.3 and told["id"] == "pushed", told


# What a host does that brings its own HTTP: WHIP's requests, a recording's controls, its store; then the same folder by another engine.
CALLS = """
import assert from "node:assert";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Engine } from "loom-video";

const [path, folder] = process.argv.slice(2);
const offer = await readFile(path, "utf8");
const how = { captions: false, ladder: "source", udp: "127.0.0.1:0", store: `file://${folder}/store` };
let engine = await Engine.start(`${folder}/work`, { ...how, announce: ["203.0.113.7"], maxPerAddress: 1 });
let recording = engine.create("whip");
const { answer, session, etag } = await recording.publish(offer, "192.0.2.9");
assert(answer.includes(" 203.0.113.7 "), answer);
assert.match(etag, /^"[^"]+"$/);
assert.strictEqual(recording.etag(session), etag);
await assert.rejects(recording.join("phone", offer, "192.0.2.9"), { code: "LOOM_ERROR_FULL" });
await assert.rejects(recording.join("My phone", offer), { code: "LOOM_ERROR_ARGUMENT" });
const phone = await recording.join("phone", offer);
assert(phone.answer.includes("a=recvonly") && phone.session !== session && phone.etag !== etag);
const trickle = ["m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", "a=candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host", ""].join("\\r\\n");
assert.strictEqual(recording.patch(session, null, trickle).status, 428);
assert.strictEqual(recording.patch(session, etag, trickle).status, 204);
recording.hangUp(phone.session);
assert.strictEqual(recording.state, "live");
recording.hangUp(session);
assert.strictEqual(await recording.wait(30), "failed");

recording = engine.create("pushed");
const pusher = await recording.push([{ kind: "pictures", width: 160, height: 120, frameRate: 25 }, { kind: "sound", channels: 1 }]);
const picture = Buffer.alloc(160 * 180, 128), states = [];
for (let number = 0; number < 100; number += 1) {
  picture.fill(60 + number, 0, 160 * 120);
  pusher.picture(0, number / 25, picture);
  pusher.sound(1, number / 25, new Float32Array(1920).fill(0.1));
  if (number === 75) {
    await recording.mark("A chapter");
    await recording.pause();
    states.push(recording.state);
    await recording.resume();
    states.push(recording.state);
  }
  await sleep(40);
}
assert.deepStrictEqual(states, ["paused", "live"]);
await recording.stop();
await pusher.finish();
assert.strictEqual(await recording.wait(30), "ready");
await recording.stored();
await assert.rejects(recording.setClass("cold"), { code: "LOOM_ERROR_IO" }); // a folder has no tags
await recording.download(`${folder}/pushed.mp4`);
await recording.export(`${folder}/hls`);
assert(Buffer.from((await recording.hls("chapters.json")).body).toString().includes("A chapter"));
assert.deepStrictEqual(await engine.storedRecordings(), ["pushed"]); // of the other there is nothing
await recording.close();
await engine.close();

engine = await Engine.start(`${folder}/work`, how);
assert.deepStrictEqual((await engine.recordings()).sort(), ["pushed", "whip"]);
recording = await engine.open("pushed");
assert.strictEqual(recording.state, "ready");
await recording.delete();
assert.deepStrictEqual([await recording.wait(5), recording.state], ["deleted", "deleted"]);
assert.deepStrictEqual([await engine.recordings(), await engine.storedRecordings()], [["whip"], []]);
const waited = engine.create("waited");
const ended = waited.wait(30);
await waited.delete();
assert.strictEqual(await ended, "deleted");
await engine.close();
"""


def test_every_call_of_a_host_is_made_and_a_later_engine_finds_what_was_recorded(project, tmp_path):
    (project / "calls.mjs").write_text(CALLS)
    run(project, "node", "calls.mjs", OFFER, tmp_path)
    for made in ("pushed.mp4", "hls/main.m3u8"):
        judges.decode(tmp_path / made)
    assert judges.end(tmp_path / "pushed.mp4") > 2


# Pushes a screen and a camera, and has both made into one picture.
COMPOSED = """
import assert from "node:assert";
import { setTimeout as sleep } from "node:timers/promises";
import { Engine } from "loom-video";

const [folder] = process.argv.slice(2);
const settings = { suppressNoise: true, loudness: -18, liveCores: 2, rungs: [{ lines: 120, bits: 300_000 }], window: "dvr-60", sync: 1, chunksAtOnce: 1 };
const engine = await Engine.start(`${folder}/work`, { captions: false, udp: "127.0.0.1:0", thumbnails: false, longestPause: 60, unused: 60, ...settings });
await assert.rejects(Engine.start(`${folder}/other`, { captions: false, loudness: 3 }), { code: "LOOM_ERROR_ARGUMENT" });
const recording = engine.create("both");
const size = { kind: "pictures", frameRate: 25 };
const pusher = await recording.push([{ ...size, width: 320, height: 240 }, { ...size, width: 160, height: 120 }, { kind: "sound", channels: 1 }]);
const screen = Buffer.alloc(320 * 360, 128), camera = Buffer.alloc(160 * 180, 128);
for (let number = 0; number < 75; number += 1) {
  pusher.picture(0, number / 25, screen.fill(90 + number % 8, 0, 320 * 240));
  pusher.picture(1, number / 25, camera.fill(200 + number % 8, 0, 160 * 120));
  pusher.sound(2, number / 25, new Float32Array(1920).fill(0.1));
  await sleep(40);
}
await assert.rejects(recording.layOut(), { code: "LOOM_ERROR_STATE" });
await pusher.finish();
assert.strictEqual(await recording.wait(60), "ready");
assert.deepStrictEqual([recording.jobs(), recording.info().composition], [[], undefined]);
await assert.rejects(recording.downloadComposition(`${folder}/no.mp4`), { code: "LOOM_ERROR_NOT_READY" });
assert.throws(() => recording.restartJob("composition"), { code: "LOOM_ERROR_NOT_FOUND" });
await assert.rejects(recording.layOut([{ size: 7 }]), /placements\\[0\\].size is 7/);
await recording.layOut([{ place: "top-right", size: 0.4 }]);
for (;;) {
  const { state, progress } = recording.jobs().find(it => it.job === "composition");
  if (state === "done") break;
  assert(["queued", "running"].includes(state) && progress >= 0 && progress <= 1, state);
  await sleep(50);
}
const made = recording.info().composition;
assert.deepStrictEqual(made.renditions.map(it => [it.width, it.height]), [[320, 240], [160, 120]]);
assert.strictEqual(made.layout.placements[0].place, "top-right");
assert.strictEqual(made.thumbnails, undefined);
assert.strictEqual((await recording.hls(made.playlist)).status, 200);
await recording.downloadComposition(`${folder}/both.mp4`);
await engine.close();
"""


def test_screen_and_camera_that_are_pushed_become_one_picture_and_settings_are_obeyed(project, tmp_path):
    (project / "composed.mjs").write_text(COMPOSED)
    run(project, "node", "composed.mjs", tmp_path)
    judges.decode(tmp_path / "both.mp4")
    assert judges.streams(tmp_path / "both.mp4") == ["aac", "h264,320,240"]


# Has a spoken film heard, and corrects what was.
CORRECTED = """
import assert from "node:assert";
import { Engine } from "loom-video";

const [folder, film] = process.argv.slice(2);
const engine = await Engine.start(`${folder}/work`, { ladder: "source", udp: "127.0.0.1:0" });
const recording = engine.create("said");
await recording.importFile(film);
assert.equal(await recording.wait(300), "ready");
assert.deepEqual(recording.transcriptVersions(), [{ version: 1 }]);
const before = recording.transcript();
const made = await recording.correct(1, [{ segment: 0, text: "Quite other words." }]);
assert.equal(made.version, 2);
assert(recording.transcript("srt").includes("Quite other words."));
assert.equal(await recording.transcriptVersion(1), before);
await assert.rejects(recording.correct(1, [{ segment: 0, text: "Too late." }]), { code: "LOOM_ERROR_STATE" });
await assert.rejects(recording.transcriptVersion(3), { code: "LOOM_ERROR_NOT_FOUND" });
assert.equal((await recording.restoreTranscript(2, 1)).restored, 1);
assert.equal(recording.transcript(), before);
await recording.close();
await engine.close();
"""


@pytest.mark.skipif(not MODEL.exists(), reason="NO SPEECH MODEL: nothing is heard that could be corrected")
def test_what_was_heard_is_corrected_as_a_version(project, tmp_path):
    (project / "corrected.mjs").write_text(CORRECTED)
    run(project, "node", "corrected.mjs", tmp_path, spoken_film(), LOOM_MODEL=str(MODEL))


def test_a_process_that_closes_nothing_ends_all_the_same(project):
    program = f"""
    import {{ Engine }} from "loom-video";
    const engine = await Engine.start("left", {{ captions: false }});
    const recording = engine.create();
    await recording.importFile({json.dumps(str(film_mp4()))});
    recording.cancel();
    const states = [];
    for await (const event of recording.events()) if (event.event === "state") states.push(event.state);
    console.log(recording.state, states.at(-1), recording.info().reason);
    """
    said = node(project, program)
    assert said.startswith("failed failed") and "cancelled" in said, said


# Uses every name with its types, and a few wrongly.
TYPED = """
import { Engine, LoomError, version, type Event, type Response, type Track } from "loom-video";

const engine: Engine = await Engine.start("typed", { captions: false, ladder: "source", encryption: "cenc", minFreeBytes: 1n });
const recording = engine.create();
const tracks: Track[] = [{ kind: "h264" }, { kind: "opus", channels: 1 }, { kind: "pictures", width: 2, height: 2 }];
const pusher = await recording.push(tracks);
const taken: boolean = pusher.packet(0, 0, new Uint8Array(4));
for await (const event of recording.events()) {
  const told: Event = event;
  if (told.event === "caption") console.log(told.text, told.words?.[0]?.probability);
  if (told.event === "job") console.log(told.job, told.state === "parked", told.next_try ?? 0);
  if (told.event === "joined") console.log(told.joined.map(it => `${it.name} ${it.state} ${it.aligned_by}`));
}
const answer: Response = await recording.hls("main.m3u8", "a=b", "bytes=0-1");
const { session, etag } = await recording.publish("v=0", "192.0.2.1");
const names: string[] = [...await engine.recordings(), ...await engine.storedRecordings(), (await recording.join("phone", "v=0")).session];
if (await recording.wait() === "deleted" || recording.state === "deleted") console.log(names);
await recording.layOut([{ at: 2, shape: "rectangle", place: { x: 0.5, y: 0.5 } }, { at: 4, hidden: true }]);
const composed: string | undefined = recording.info().composition?.playlist;
if (recording.jobs().some(it => it.job === "composition" && it.state === "parked")) recording.restartJob("composition");
const patched: number = recording.patch(session, etag, "a=mid:0").status;
try { await engine.open("a"); } catch (error) { if (error instanceof LoomError) console.log(error.code, error.result); }
console.log(version(), taken, answer.body.length, patched, composed);
// @ts-expect-error no camera has that shape
await recording.layOut([{ shape: "star" }]);
// @ts-expect-error there is no such ladder
await Engine.start("typed", { ladder: "none" });
// @ts-expect-error no event has that name
if ((await recording.events().next()).value?.event === "nothing") {}
// @ts-expect-error an engine is started, not made
new Engine();
await engine.close();
"""


def test_the_types_are_those_of_what_is_there(project):
    (project / "typed.mts").write_text(TYPED)
    strict = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,esnext.disposable,dom"]
    run(project, "node_modules/.bin/tsc", *strict, "typed.mts")
    program = """
    import * as loom from "loom-video";
    const methods = (it) => Object.getOwnPropertyNames(it.prototype ?? {}).filter(name => !name.startsWith("_") && name !== "constructor");
    console.log(JSON.stringify(Object.fromEntries(Object.entries(loom).map(([name, it]) => [name, methods(it)]))));
    """
    declared = (PACKAGE / "lib" / "index.d.ts").read_text()
    for name, methods in json.loads(node(project, program)).items():
        assert f"class {name} " in declared or f"function {name}(" in declared, name
        for method in methods:
            assert f"  {method}(" in declared or f"  readonly {method}:" in declared, f"{name}.{method} is not declared"
