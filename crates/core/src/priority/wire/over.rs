//! Lays one policy over another, key by key; lists replace lists.

use std::collections::BTreeMap;

use toml::Spanned;

use super::{
    Bands, EpssOverride, Evidence, Impact, Lower, Negation, Neutral, Override, Reach,
    ReachedOverride, ScoreOverride, Text, Wire,
};

impl Reach {
    fn over(self, below: Self) -> Self {
        Self {
            why: self.why.or(below.why),
            paths: self.paths.or(below.paths),
            titles: self.titles.or(below.titles),
            door: self.door.or(below.door),
            local: self.local.or(below.local),
            userns: self.userns.or(below.userns),
            container: self.container.or(below.container),
            network: self.network.or(below.network),
            adjacent: self.adjacent.or(below.adjacent),
            usb: self.usb.or(below.usb),
            guest: self.guest.or(below.guest),
        }
    }
}

impl Impact {
    fn over(self, below: Self) -> Self {
        Self {
            why: self.why.or(below.why),
            points: self.points.or(below.points),
            words: self.words.or(below.words),
            vectors: self.vectors.or(below.vectors),
        }
    }
}

impl Override {
    fn over(self, below: Self) -> Self {
        Self {
            band: self.band.or(below.band),
            add: self.add.or(below.add),
        }
    }
}

impl Wire {
    /// Lays these keys over those of `below`; lists replace lists.
    pub(in crate::priority) fn over(self, below: Self) -> Self {
        let (evidence, base) = (self.evidence, below.evidence);
        Self {
            format: self.format,
            name: self.name.or(below.name),
            models: self.models.or(below.models),
            bands: Bands {
                act: self.bands.act.or(below.bands.act),
                attend: self.bands.attend.or(below.bands.attend),
            },
            neutral: Neutral {
                reach: self.neutral.reach.or(below.neutral.reach),
                impact: self.neutral.impact.or(below.neutral.impact),
                elsewhere: self.neutral.elsewhere.or(below.neutral.elsewhere),
                closed: self.neutral.closed.or(below.neutral.closed),
            },
            reach: merge(self.reach, below.reach, Reach::over),
            impact: merge(self.impact, below.impact, Impact::over),
            negation: Negation {
                words: self.negation.words.or(below.negation.words),
                articles: self.negation.articles.or(below.negation.articles),
            },
            lower: Lower {
                why: self.lower.why.or(below.lower.why),
                points: self.lower.points.or(below.lower.points),
                words: self.lower.words.or(below.lower.words),
                paths: self.lower.paths.or(below.lower.paths),
                models: self.lower.models.or(below.lower.models),
            },
            evidence: Evidence {
                kev: evidence.kev.over(base.kev),
                ssvc_active: evidence.ssvc_active.over(base.ssvc_active),
                exploit: evidence.exploit.over(base.exploit),
                ssvc_poc: ReachedOverride {
                    band: evidence.ssvc_poc.band.or(base.ssvc_poc.band),
                    add: evidence.ssvc_poc.add.or(base.ssvc_poc.add),
                    reach: evidence.ssvc_poc.reach.or(base.ssvc_poc.reach),
                },
                reference: evidence.reference.over(base.reference),
                score: ScoreOverride {
                    band: evidence.score.band.or(base.score.band),
                    add: evidence.score.add.or(base.score.add),
                    score: evidence.score.score.or(base.score.score),
                },
                epss: EpssOverride {
                    band: evidence.epss.band.or(base.epss.band),
                    add: evidence.epss.add.or(base.epss.add),
                    probability: evidence.epss.probability.or(base.epss.probability),
                },
            },
        }
    }
}

fn merge<T: Clone>(
    upper: BTreeMap<Text, Spanned<T>>,
    mut below: BTreeMap<Text, Spanned<T>>,
    over: impl Fn(T, T) -> T,
) -> BTreeMap<Text, Spanned<T>> {
    for (name, value) in upper {
        let span = value.span();
        let value = match below.remove(&name) {
            Some(base) => over(value.into_inner(), base.into_inner()),
            None => value.into_inner(),
        };
        below.insert(name, Spanned::new(span, value));
    }
    below
}
