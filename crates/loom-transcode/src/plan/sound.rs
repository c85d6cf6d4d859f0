//! How loud a file's sound is made is decided before it is encoded, by listening to all of it.

use super::{AudioPlan, Plan};
#[cfg(feature = "gst")]
use super::{SourceAudioCodec, audio_decoders};
#[cfg(feature = "gst")]
use crate::capability::Capabilities;
use crate::sound::Loudness;

impl Plan {
    /// A plan that encodes nothing, and only measures how loud this one would be so far; `None` where no loudness is wanted. Run it on the same file,
    /// hand what it measured to [`handle_loudness`](Self::handle_loudness), and so on while that says that it is of use: three times at most.
    pub fn measuring(&self) -> Option<Self> {
        let audio = self.audio.as_ref().filter(|it| it.loudness.is_some())?;
        Some(Self {
            renditions: Vec::new(),
            video: None,
            audio: Some(AudioPlan {
                keep: None,
                encoder: None,
                pcm: false,
                ..audio.clone()
            }),
            notes: Vec::new(),
            ..self.clone()
        })
    }

    /// Takes what was measured, and decides the gain. Gives whether to measure again: peaks that are made softer take some of the loudness.
    pub fn handle_loudness(&mut self, heard: &Loudness) -> bool {
        let Some(audio) = &mut self.audio else {
            return false;
        };
        let Some(target) = audio.loudness else {
            return false;
        };
        let missing = target.integrated - heard.integrated;
        if heard.gain.is_some() && missing.abs() <= NEAR {
            return false;
        }
        let gain = (audio.gain.unwrap_or_default() + missing).min(MOST_GAIN);
        let more = gain - audio.gain.unwrap_or_default();
        audio.gain = Some(gain);
        heard.true_peak + more > target.true_peak && more.abs() > NEAR
    }
}

#[cfg(feature = "gst")]
impl AudioPlan {
    /// Makes nothing of a sound, and measures it; `None` where it cannot be decoded here.
    pub(crate) fn listening(source: SourceAudioCodec, channels: u16, can: &Capabilities) -> Option<Self> {
        Some(Self {
            source,
            keep: None,
            decoder: Some(can.first_of(audio_decoders(source))?.to_owned()),
            encoder: None,
            channels: channels.clamp(1, 2),
            bitrate: 0,
            pcm: false,
            measured: true,
            suppresses_noise: false,
            loudness: None,
            gain: None,
        })
    }
}

/// As near to the target as the measure is fine, LU.
const NEAR: f64 = 0.1;

/// Sound is made louder by no more decibels: it would be mostly noise.
const MOST_GAIN: f64 = 24.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Capabilities;
    use crate::plan::{AudioShape, SourceAudioCodec, SourceShape, Wanted, plan};
    use crate::sound::{LoudnessTarget, SoundTreatment};

    fn of(codec: SourceAudioCodec, live: bool, sound: SoundTreatment) -> Plan {
        let source = SourceShape {
            video: None,
            audio: Some(AudioShape {
                codec,
                sample_rate: 48_000,
                channels: 2,
                bitrate: None,
            }),
            live,
            duration: None,
        };
        let wanted = Wanted {
            sound,
            ..Wanted::default()
        };
        let machine = Capabilities::of(4, ["opusdec", "avdec_aac", "avenc_aac"]);
        plan(&source, &wanted, &machine).expect("a plan")
    }

    fn loud() -> SoundTreatment {
        SoundTreatment {
            loudness: Some(LoudnessTarget::default()),
            ..SoundTreatment::default()
        }
    }

    fn heard(integrated: f64, true_peak: f64, gain: Option<f64>) -> Loudness {
        Loudness {
            integrated,
            range: 3.0,
            true_peak,
            gain,
        }
    }

    #[test]
    fn the_gain_is_what_is_missing_and_peaks_that_are_softened_are_heard_again() {
        let mut soft = of(SourceAudioCodec::Opus, false, loud());
        assert!(
            !soft.handle_loudness(&heard(-20.0, -8.0, None)),
            "its peaks stay below"
        );
        assert_eq!(soft.audio.as_ref().and_then(|it| it.gain), Some(4.0));
        let mut peaky = of(SourceAudioCodec::Opus, false, loud());
        assert!(peaky.handle_loudness(&heard(-26.0, -2.0, None)));
        assert!(peaky.handle_loudness(&heard(-16.8, -1.0, Some(10.0))));
        assert!(!peaky.handle_loudness(&heard(-16.05, -1.0, Some(10.8))));
        let gain = peaky.audio.and_then(|it| it.gain).expect("it is decided");
        assert!((gain - 10.8).abs() < 1e-9, "{gain}");
        let mut noise = of(SourceAudioCodec::Opus, false, loud());
        assert!(noise.handle_loudness(&heard(-65.0, -20.0, None)));
        assert_eq!(noise.audio.and_then(|it| it.gain), Some(MOST_GAIN));
    }

    #[test]
    fn what_is_aac_is_encoded_again_only_where_it_is_treated() {
        let names = |plan: &Plan| -> Vec<(String, bool)> {
            plan.renditions
                .iter()
                .map(|it| (it.id.to_string(), it.kept))
                .collect()
        };
        let kept = of(SourceAudioCodec::Aac, false, SoundTreatment::default());
        assert_eq!(names(&kept), [("aac".to_owned(), true)]);
        assert!(kept.measuring().is_none());
        let made = of(SourceAudioCodec::Aac, false, loud());
        assert_eq!(names(&made), [("aac".to_owned(), false)]);
        let measuring = made
            .measuring()
            .and_then(|it| it.audio)
            .expect("it is measured first");
        assert!(measuring.measured && measuring.encoder.is_none() && !measuring.pcm);
        let opus = of(SourceAudioCodec::Opus, false, loud());
        assert_eq!(
            names(&opus),
            [("opus".to_owned(), true), ("aac".to_owned(), false)]
        );
    }

    #[test]
    fn live_sound_is_not_made_louder_and_the_plan_says_so() {
        let live = of(SourceAudioCodec::Opus, true, loud());
        assert!(live.measuring().is_none());
        assert!(live.to_string().contains("stays as loud as it comes"), "{live}");
    }
}
