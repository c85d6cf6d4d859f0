//! openssl and ffmpeg decrypt what the packager encrypted, and it is what was packaged in the clear.

use std::io::Write;
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::media::{
    self, aac_stream, h264_stream, hevc_stream, ivf_stream, ivf_stream_by, opus_stream,
};
use crate::support::{Folder, Stream, package};
use loom_core::codec::av1::{obu_type, obus};
use loom_core::{CodecParameters, VideoCodec};
use loom_hls::{
    ContentKey, Encryption, EncryptionScheme, HlsError, HlsOutput, KeyBytes, KeyFormat, Packager,
    PackagerConfig,
};
use mp4_atom::{Any, DecodeMaybe as _};

fn key(period: u32) -> ContentKey {
    let bytes = |from: u8| std::array::from_fn(|n| from.wrapping_mul(17).wrapping_add(n as u8 * 3));
    ContentKey {
        period,
        id: bytes(period as u8 + 1),
        key: KeyBytes::new(bytes(period as u8 + 101)),
        iv: bytes(period as u8 + 201),
        uri: format!("key-{period}.bin"),
        formats: Vec::new(),
        pssh: Vec::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn encrypted(scheme: EncryptionScheme, rotation: Option<u32>) -> PackagerConfig {
    PackagerConfig {
        encryption: Some(Encryption {
            scheme,
            rotation: rotation.and_then(NonZeroU32::new),
        }),
        ..Default::default()
    }
}

/// Packages with all keys there from the start, their files beside the playlists.
fn made(config: PackagerConfig, streams: &[Stream]) -> Folder {
    let wants = config.encryption.is_some();
    let mut packager = Packager::new(config).unwrap();
    let keys = (0..8).map(key);
    for key in keys.clone().filter(|_| wants) {
        packager.handle_key(key).unwrap();
    }
    let mut folder = package(&mut packager, streams, |_, _, _| {});
    for key in keys {
        folder.files.insert(key.uri.clone(), key.key.expose().to_vec());
    }
    folder
}

fn openssl(key: &ContentKey, iv: &str, data: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args([
            "enc",
            "-d",
            "-aes-128-cbc",
            "-K",
            &hex(key.key.expose()),
            "-iv",
            iv,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&data));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// A digest of each packet of `file` as ffmpeg reads it, decrypted with `key`.
fn packets(file: &Path, key: Option<&ContentKey>) -> Vec<String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-loglevel", "error", "-nostdin"]);
    if let Some(key) = key {
        command.args(["-decryption_key", &hex(key.key.expose())]);
    }
    if file.extension().is_some_and(|it| it == "m3u8") {
        command.args(["-allowed_extensions", "ALL"]);
    }
    let output = command
        .arg("-i")
        .arg(file)
        .args(["-c", "copy", "-copyinkf", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    // with a wrong key there may be nothing that parses
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// The init segment and one chunk of a segment as a file, chunk by chunk: ffmpeg 5.1 mixes up the encryption of chunks in one file.
fn each_chunk(folder: &Folder, name: &str, init: u32, segment: u64, mut judge: impl FnMut(usize, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chunk.mp4");
    let data = &folder.files[&format!("{name}/s{segment}.m4s")];
    let (mut at, mut number) = (0, 0);
    let mut head = Vec::new();
    // the first few will do: they are made alike
    while at < data.len() && number < 4 {
        let size = u32::from_be_bytes(data[at..at + 4].try_into().unwrap()) as usize;
        let whole = &data[at..at + size];
        match &whole[4..8] {
            b"moof" => head = whole.to_vec(),
            b"mdat" => {
                let init = &folder.files[&format!("{name}/init-{init}.mp4")];
                std::fs::write(&path, [init, &head, whole].concat()).unwrap();
                judge(number, &path);
                number += 1;
            }
            _ => {}
        }
        at += size;
    }
    assert!(number > 2, "{number} chunks");
}

/// ffmpeg decrypts a segment's chunks to those in the clear, and not with another key.
fn judge(plain: &Folder, sealed: &Folder, name: &str, init: u32, segment: u64, with: &ContentKey) {
    let mut wanted = Vec::new();
    each_chunk(plain, name, 0, segment, |_, file| {
        wanted.push(packets(file, None))
    });
    assert!(wanted.iter().flatten().count() > 20, "{wanted:?}");
    each_chunk(sealed, name, init, segment, |at, file| {
        assert_eq!(
            packets(file, Some(with)),
            wanted[at],
            "{name} {segment} chunk {at}"
        );
        // with another key nothing comes out but what is too small to be encrypted
        let other = packets(file, Some(&key(with.period + 7)));
        let size = |packet: &str| {
            packet
                .split(',')
                .nth(4)
                .map_or(0, |size| size.trim().parse().unwrap_or(0))
        };
        for packet in wanted[at].iter().filter(|packet| size(packet) > 256) {
            assert!(
                !other.contains(packet),
                "{name} {segment} chunk {at}: any key will do"
            );
        }
    });
}

#[test]
fn openssl_decrypts_whole_segments_and_every_part_by_itself() {
    if !media::have_ffmpeg() || Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: openssl or ffmpeg is not installed");
        return;
    }
    let streams = [h264_stream("source", 320, 180, 9, 60, 0), opus_stream("opus", 9)];
    let plain = made(PackagerConfig::default(), &streams);
    let mut packager = Packager::new(encrypted(EncryptionScheme::Segments, Some(2))).unwrap();
    let mut asked = Vec::new();
    let mut folder = Folder::default();
    // keys come when they are asked for
    folder.answer(&mut packager, |packager, output| {
        if let HlsOutput::NeedKey { period } = output {
            asked.push(*period);
            packager.handle_key(key(*period)).unwrap();
        }
    });
    for stream in &streams {
        packager.declare(stream.info.clone()).unwrap();
    }
    for stream in &streams {
        packager
            .handle_format(&stream.info.id, stream.codec.clone())
            .unwrap();
    }
    let mut parts = std::collections::BTreeMap::new();
    for packet in crate::support::in_order(&streams) {
        packager
            .handle_packet(&streams[packet.0].info.id, packet.1)
            .unwrap();
        folder.answer(&mut packager, |packager, output| match output {
            HlsOutput::NeedKey { period } => {
                asked.push(*period);
                packager.handle_key(key(*period)).unwrap();
            }
            HlsOutput::Store { key, data } if key.contains("/p") => {
                parts.insert(key.clone(), data.to_vec());
            }
            _ => {}
        });
    }
    packager.finish().unwrap();
    folder.answer(&mut packager, |_, output| {
        if let HlsOutput::Store { key, data } = output {
            parts.insert(key.clone(), data.to_vec());
        }
    });
    assert!(asked.len() >= 3, "{asked:?}");
    assert!(
        folder.files.keys().all(|name| !name.contains("/p")),
        "parts are let go of"
    );

    for name in ["source", "opus"] {
        let text = folder.stored(&format!("{name}/index.m3u8"));
        let parsed = m3u8_rs::parse_media_playlist_res(text.as_bytes()).unwrap();
        assert!(text.find("METHOD=NONE") < text.find("#EXT-X-MAP"), "{text}");
        let mut used = std::collections::BTreeSet::new();
        let mut next_part = 0;
        for segment in &parsed.segments {
            let told = segment.key.as_ref().unwrap();
            assert_eq!(told.method, m3u8_rs::KeyMethod::AES128);
            let uri = told.uri.as_deref().unwrap();
            let period: u32 = uri["../key-".len()..uri.len() - 4].parse().unwrap();
            used.insert(period);
            let iv = &told.iv.as_deref().unwrap()[2..];
            let file = format!("{name}/{}", segment.uri);
            let opened = openssl(&key(period), iv, &folder.files[&file]);
            assert!(opened == plain.files[&file], "{file}");
            let mut joined = Vec::new();
            while joined.len() < opened.len() {
                joined.extend(openssl(
                    &key(period),
                    iv,
                    &parts[&format!("{name}/p{next_part}.m4s")],
                ));
                next_part += 1;
            }
            assert!(joined == opened, "{file}: its parts");
        }
        assert!(used.len() >= 2, "{used:?}");
    }
    let main = folder.stored("main.m3u8");
    assert!(
        main.contains("#EXT-X-SESSION-KEY:METHOD=AES-128,URI=\"key-0.bin\""),
        "{main}"
    );
}

#[test]
fn ffmpeg_plays_whole_segments_that_are_encrypted() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [hevc_stream("source", 320, 180, 6, 60), aac_stream("aac", 6)];
    let folder = made(encrypted(EncryptionScheme::Segments, Some(1)), &streams);
    let dir = tempfile::tempdir().unwrap();
    folder.write_to(dir.path());
    for stream in &streams {
        let playlist = dir.path().join(stream.info.id.as_str()).join("index.m3u8");
        let said = media::complaints(&playlist);
        assert!(said.is_empty(), "{}: {said}", stream.info.id);
        assert_eq!(packets(&playlist, None).len(), stream.packets.len());
    }
}

#[test]
fn ffmpeg_decrypts_samples_to_what_they_were() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [
        h264_stream("source", 320, 180, 3, 60, 2),
        aac_stream("aac", 3),
        opus_stream("opus", 3),
        hevc_stream("hevc", 320, 180, 3, 60),
        ivf_stream("vp9", VideoCodec::Vp9, 320, 180, 3, 60),
        ivf_stream("av1", VideoCodec::Av1, 320, 180, 3, 60),
    ];
    let plain = made(PackagerConfig::default(), &streams);
    for scheme in [EncryptionScheme::Cenc, EncryptionScheme::Cbcs] {
        let folder = made(encrypted(scheme, None), &streams);
        for stream in &streams {
            judge(&plain, &folder, stream.info.id.as_str(), 0, 2, &key(0));
        }
        let text = folder.stored("source/index.m3u8");
        let method = match scheme {
            EncryptionScheme::Cenc => "SAMPLE-AES-CTR",
            _ => "SAMPLE-AES",
        };
        assert!(
            text.contains(&format!("#EXT-X-KEY:METHOD={method},URI=\"../key-0.bin\"")),
            "{text}"
        );
    }
}

/// What ffmpeg reads in the headers of slices and frames of a file whose samples it does not decrypt.
fn headers(file: &Path) -> Vec<String> {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-i"])
        .arg(file)
        .args([
            "-c",
            "copy",
            "-copyinkf",
            "-bsf:v",
            "trace_headers",
            "-f",
            "null",
            "-",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let bits = said.lines().filter_map(|line| Some(line.split_once("] ")?.1));
    // lines of the kind `12  slice_type  011 = 2`; the size of a packet is no header's
    let fields = bits.filter(|line| line.starts_with(|c: char| c.is_ascii_digit()) && line.contains(" = "));
    fields.map(str::to_owned).collect()
}

/// AV1 in two by two tiles.
fn av1_tiles(name: &str) -> Stream {
    let encoder = [
        "libaom-av1",
        "-cpu-used",
        "8",
        "-usage",
        "realtime",
        "-tiles",
        "2x2",
    ];
    ivf_stream_by(&encoder, name, VideoCodec::Av1, (320, 180), 5, 60)
}

/// AV1 with frames that are decoded before they are shown, several references and film grain.
fn av1_layered(name: &str) -> Stream {
    let options = "film-grain=8:tile-columns=1:tile-rows=1";
    let encoder = ["libsvtav1", "-preset", "10", "-svtav1-params", options];
    ivf_stream_by(&encoder, name, VideoCodec::Av1, (320, 180), 5, 60)
}

#[test]
fn every_tile_of_av1_is_protected_by_itself() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [av1_tiles("tiles"), av1_layered("layered")];
    let bare = |stream: &Stream| {
        let obus = stream
            .packets
            .iter()
            .flat_map(|packet| obus(&packet.data).unwrap());
        obus.filter(|obu| matches!(obu.obu_type, obu_type::FRAME | obu_type::TILE_GROUP))
            .count()
    };
    for scheme in [EncryptionScheme::Cenc, EncryptionScheme::Cbcs] {
        let folder = made(encrypted(scheme, None), &streams);
        for stream in &streams {
            let (mut tiles, mut blocks) = (0, true);
            let segments = folder.files.iter().filter(|(file, _)| {
                file.starts_with(&format!("{}/s", stream.info.id)) && file.ends_with(".m4s")
            });
            for (_, data) in segments {
                let mut rest = data.as_slice();
                while let Some(any) = Any::decode_maybe(&mut rest).unwrap() {
                    let Any::Moof(moof) = any else { continue };
                    let senc = moof.traf[0].senc.as_ref().unwrap();
                    let vector = if scheme == EncryptionScheme::Cenc { 8 } else { 0 };
                    let mut at = 4;
                    while at < senc.data.len() {
                        at += vector;
                        let count = u16::from_be_bytes(senc.data[at..at + 2].try_into().unwrap());
                        at += 2;
                        for _ in 0..count {
                            let protected = u32::from_be_bytes(senc.data[at + 2..at + 6].try_into().unwrap());
                            tiles += usize::from(protected > 0);
                            blocks &= protected % 16 == 0;
                            at += 6;
                        }
                    }
                }
            }
            let frames = bare(stream);
            match scheme {
                // tiles of less than a block stay in the clear
                EncryptionScheme::Cenc => assert!(blocks && tiles > frames, "{tiles} in {frames}"),
                _ => assert_eq!(tiles, 4 * frames, "{}", stream.info.id),
            }
        }
    }
}

#[test]
fn headers_stay_in_the_clear() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [
        h264_stream("h264", 320, 180, 5, 60, 2),
        hevc_stream("hevc", 320, 180, 5, 60),
        ivf_stream("vp9", VideoCodec::Vp9, 320, 180, 5, 60),
        ivf_stream("av1", VideoCodec::Av1, 320, 180, 5, 60),
        av1_tiles("tiles"),
        av1_layered("layered"),
    ];
    let plain = made(PackagerConfig::default(), &streams);
    let sealed = made(encrypted(EncryptionScheme::Cbcs, None), &streams);
    for name in ["h264", "hevc", "vp9", "av1", "tiles", "layered"] {
        let mut wanted = Vec::new();
        each_chunk(&plain, name, 0, 2, |_, file| wanted.push(headers(file)));
        assert!(wanted.iter().flatten().count() > 200, "{name}: {wanted:?}");
        each_chunk(&sealed, name, 0, 2, |at, file| {
            assert!(
                headers(file) == wanted[at],
                "{name} {at}: {:?} for {:?}",
                headers(file),
                wanted[at]
            );
        });
    }
}

#[test]
fn a_key_that_rotates_comes_with_an_init_segment_of_its_own() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [h264_stream("source", 320, 180, 9, 60, 0), aac_stream("aac", 9)];
    let plain = made(PackagerConfig::default(), &streams);
    let folder = made(encrypted(EncryptionScheme::Cbcs, Some(2)), &streams);
    for name in ["source", "aac"] {
        let text = folder.stored(&format!("{name}/index.m3u8"));
        let maps = text.matches("#EXT-X-MAP").count();
        assert!(maps >= 2 && maps == text.matches("#EXT-X-KEY").count(), "{text}");
        assert!(!text.contains("DISCONTINUITY"), "{text}");
        judge(&plain, &folder, name, 0, 2, &key(0));
        judge(&plain, &folder, name, 1, 3, &key(1));
    }
}

#[test]
fn a_key_that_is_late_leaves_the_one_before_in_force() {
    if !media::have_ffmpeg() {
        return;
    }
    let streams = [aac_stream("aac", 9)];
    let mut packager = Packager::new(encrypted(EncryptionScheme::Cbcs, Some(1))).unwrap();
    packager.handle_key(key(0)).unwrap();
    let folder = package(&mut packager, &streams, |_, _, _| {});
    let text = folder.stored("aac/index.m3u8");
    assert_eq!(text.matches("#EXT-X-KEY").count(), 1, "{text}");
}

#[test]
fn what_cannot_be_encrypted_is_refused() {
    if !media::have_ffmpeg() {
        return;
    }
    let mut stream = ivf_stream("source", VideoCodec::Av1, 320, 180, 1, 30);
    if let CodecParameters::Video(video) = &mut stream.codec {
        video.config.truncate(4); // without its sequence header
    }
    let mut packager = Packager::new(encrypted(EncryptionScheme::Cbcs, None)).unwrap();
    packager.declare(stream.info.clone()).unwrap();
    packager.handle_key(key(0)).unwrap();
    let refused = packager.handle_format(&stream.info.id, stream.codec).unwrap_err();
    assert!(matches!(refused, HlsError::Format { .. }), "{refused}");
    assert!(refused.to_string().contains("no sequence header"), "{refused}");
    let stream = aac_stream("aac", 1);
    let mut packager = Packager::new(encrypted(EncryptionScheme::Segments, None)).unwrap();
    packager.declare(stream.info.clone()).unwrap();
    let early = packager.handle_format(&stream.info.id, stream.codec).unwrap_err();
    assert!(early.to_string().contains("no key"), "{early}");
    let broken = ContentKey {
        uri: "a\"b".to_owned(),
        ..key(0)
    };
    assert!(packager.handle_key(broken).is_err());
}

#[test]
fn a_key_is_never_printed() {
    let mut secret = key(0);
    secret.formats.push(KeyFormat {
        format: "urn:uuid:edef8ba9-79d6-4ace-a3c8-27dcd51d21ed".to_owned(),
        versions: "1".to_owned(),
        uri: "data:text/plain;base64,AAAA".to_owned(),
    });
    let mut packager = Packager::new(encrypted(EncryptionScheme::Cbcs, None)).unwrap();
    let bytes = *secret.key.expose();
    packager.handle_key(secret.clone()).unwrap();
    let printed = format!("{packager:?} {secret:?} {:?}", secret.key);
    assert!(
        !printed.contains(&format!("{bytes:?}")) && !printed.contains(&hex(&bytes)),
        "{printed}"
    );
}
