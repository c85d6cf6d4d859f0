"""A film to an HLS folder and a transcript: `python film.py FILM FOLDER`."""

import pathlib
import sys

import loom

film, folder = map(pathlib.Path, sys.argv[1:3])
with loom.Engine(folder / "work") as engine:
    recording = engine.create()
    recording.import_file(film)
    for event in recording.events():
        if event["event"] == "progress":
            print(f"{event['stage']}: {event['fraction']:.0%}", flush=True)
    if recording.state != "ready":
        sys.exit(recording.info()["reason"])
    recording.export(folder / "hls")
    if recording.info()["captions"]:  # it has sound, and there is a model
        (folder / "transcript.txt").write_text(recording.transcript("txt"))
        (folder / "transcript.vtt").write_text(recording.transcript("vtt"))
