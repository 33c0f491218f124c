//! Alerts: what a person should know and do. Pure: time is an argument.
//!
//! A cause is reported whenever it is looked at ([`Alerts::set`]); the alert is raised once the cause has lasted as long as its code asks,
//! and cleared when the cause is gone.

use std::collections::BTreeMap;

/// What an alert is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Code {
    Disconnected,
    PeerUnreachable,
    PortInUse,
    MulticastBlocked,
    ClockUntrusted,
    PeerClockAhead,
    Fork,
    StoreFault,
    CurrencyMismatch,
    WrongStoreKey,
    VersionTooOld,
    OpsHeld,
    ConfigDamaged,
    ConfigInvalid,
    StoreKeyExposed,
}

/// How pressing an alert is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Severity {
    Warning,
    Critical,
}

/// The texts of an alert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Texts {
    pub(super) en: &'static str,
    pub(super) fr: &'static str,
    pub(super) ar: &'static str,
}

/// A raised alert.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Alert {
    pub(super) code: Code,
    /// Which peer or file, where there can be several.
    pub(super) subject: String,
    /// When its cause began, in milliseconds since 1970.
    pub(super) since_ms: u64,
    /// The cause in its own words.
    pub(super) detail: String,
}

#[derive(Debug)]
struct Cause {
    began: u64,
    since_ms: u64,
    detail: String,
}

/// All causes at work.
#[derive(Debug, Default)]
pub(super) struct Alerts {
    causes: BTreeMap<(Code, String), Cause>,
}

/// The most causes kept: more of one kind than tills in any store says nothing new.
const CAUSES_MAX: usize = 256;

impl Code {
    /// The name in the API.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::PeerUnreachable => "peerUnreachable",
            Self::PortInUse => "portInUse",
            Self::MulticastBlocked => "multicastBlocked",
            Self::ClockUntrusted => "clockUntrusted",
            Self::PeerClockAhead => "peerClockAhead",
            Self::Fork => "fork",
            Self::StoreFault => "storeFault",
            Self::CurrencyMismatch => "currencyMismatch",
            Self::WrongStoreKey => "wrongStoreKey",
            Self::VersionTooOld => "versionTooOld",
            Self::OpsHeld => "opsHeld",
            Self::ConfigDamaged => "configDamaged",
            Self::ConfigInvalid => "configInvalid",
            Self::StoreKeyExposed => "storeKeyExposed",
        }
    }

    pub(super) fn severity(self) -> Severity {
        match self {
            Self::PortInUse | Self::Fork | Self::StoreFault | Self::CurrencyMismatch | Self::ConfigDamaged => {
                Severity::Critical
            }
            _ => Severity::Warning,
        }
    }

    /// How long the cause lasts before the alert is raised, in milliseconds.
    fn delay_ms(self) -> u64 {
        match self {
            Self::Disconnected => 60_000,
            Self::PeerUnreachable => 300_000,
            Self::MulticastBlocked => 30_000,
            _ => 0,
        }
    }

    pub(super) fn texts(self) -> Texts {
        let (en, fr, ar) = match self {
            Self::Disconnected => (
                "No other till is linked. Selling goes on. Check the network cable or Wi-Fi, and that the other tills are on.",
                "Aucune autre caisse n'est connectée. La vente continue. Vérifiez le câble réseau ou le Wi-Fi, et que les autres caisses sont allumées.",
                "لا توجد أي صندوق آخر متصل. البيع مستمر. تحقق من كابل الشبكة أو الواي فاي ومن أن الصناديق الأخرى مشغلة.",
            ),
            Self::PeerUnreachable => (
                "A till of the store cannot be reached. Check that it is on and on the same network.",
                "Une caisse du magasin est injoignable. Vérifiez qu'elle est allumée et sur le même réseau.",
                "تعذر الوصول إلى أحد صناديق المتجر. تحقق من أنه مشغل وعلى نفس الشبكة.",
            ),
            Self::PortInUse => (
                "Another program uses this till's port, so other tills cannot reach it. Stop that program or change p2p.port.",
                "Un autre programme occupe le port de cette caisse : les autres ne peuvent pas la joindre. Arrêtez-le ou changez p2p.port.",
                "برنامج آخر يستخدم منفذ هذا الصندوق فلا تستطيع الصناديق الأخرى الوصول إليه. أوقف ذلك البرنامج أو غيّر p2p.port.",
            ),
            Self::MulticastBlocked => (
                "Tills cannot be found by themselves. Allow mDNS (UDP 5353) in the network, or list the tills under peers in the config.",
                "Les caisses ne se trouvent pas d'elles-mêmes. Autorisez mDNS (UDP 5353) ou inscrivez-les sous peers dans la configuration.",
                "لا يمكن العثور على الصناديق تلقائيا. اسمح بـ mDNS (UDP 5353) أو اذكر الصناديق تحت peers في الإعدادات.",
            ),
            Self::ClockUntrusted => (
                "This till's clock is not known to be right. Connect it to the internet or a time server; sales keep their order meanwhile.",
                "L'heure de cette caisse n'est pas sûre. Connectez-la à Internet ou à un serveur de temps ; l'ordre des ventes est gardé.",
                "ساعة هذا الصندوق غير مؤكدة. صله بالإنترنت أو بخادم وقت؛ يبقى ترتيب المبيعات محفوظا.",
            ),
            Self::PeerClockAhead => (
                "A till's clock is far ahead of this one's. Set the clock of that till.",
                "L'horloge d'une caisse est très en avance sur celle-ci. Réglez l'heure de cette caisse-là.",
                "ساعة أحد الصناديق متقدمة كثيرا. اضبط وقت ذلك الصندوق.",
            ),
            Self::Fork => (
                "Two tills have written under one identity (a copied card or a restored backup). Nothing is lost; call the vendor.",
                "Deux caisses ont écrit sous une même identité (carte copiée ou sauvegarde restaurée). Rien n'est perdu ; appelez le fournisseur.",
                "كتب صندوقان بهوية واحدة (بطاقة منسوخة أو نسخة مستعادة). لم يضع شيء؛ اتصل بالمورد.",
            ),
            Self::StoreFault => (
                "Sales cannot be stored on this till. Free space on its card or replace it; the earlier data is unharmed.",
                "Les ventes ne peuvent pas être enregistrées sur cette caisse. Libérez de l'espace ou remplacez la carte ; les données sont intactes.",
                "لا يمكن حفظ المبيعات على هذا الصندوق. وفر مساحة على البطاقة أو استبدلها؛ البيانات السابقة سليمة.",
            ),
            Self::CurrencyMismatch => (
                "A till of this store counts in another currency and is refused. Give both the same store object in their config.",
                "Une caisse de ce magasin compte dans une autre devise et est refusée. Donnez aux deux le même objet store.",
                "أحد صناديق هذا المتجر يستعمل عملة أخرى وهو مرفوض. أعط كليهما نفس كائن store في الإعدادات.",
            ),
            Self::WrongStoreKey => (
                "A till that says it is of this store has another store key and is refused. Copy the store object of a till that works.",
                "Une caisse qui se dit de ce magasin a une autre clé et est refusée. Copiez l'objet store d'une caisse qui marche.",
                "صندوق يدعي أنه من هذا المتجر لديه مفتاح آخر وهو مرفوض. انسخ كائن store من صندوق يعمل.",
            ),
            Self::VersionTooOld => (
                "A till runs a version that this one cannot talk to. Update the older of the two.",
                "Une caisse a une version avec laquelle celle-ci ne peut pas parler. Mettez à jour la plus ancienne.",
                "أحد الصناديق يعمل بإصدار لا يستطيع هذا الصندوق التخاطب معه. حدّث الأقدم.",
            ),
            Self::OpsHeld => (
                "This till keeps changes that it does not understand yet. Update this till; nothing is lost.",
                "Cette caisse garde des changements qu'elle ne comprend pas encore. Mettez-la à jour ; rien n'est perdu.",
                "يحتفظ هذا الصندوق بتغييرات لا يفهمها بعد. حدّثه؛ لم يضع شيء.",
            ),
            Self::ConfigDamaged => (
                "The config file was damaged. It was moved aside and written anew; the till kept its identity. Check its settings.",
                "Le fichier de configuration était abîmé. Il a été mis de côté et réécrit ; la caisse garde son identité. Vérifiez ses réglages.",
                "كان ملف الإعدادات تالفا. نُقل جانبا وكُتب من جديد واحتفظ الصندوق بهويته. تحقق من إعداداته.",
            ),
            Self::ConfigInvalid => (
                "The config file has values that are not allowed; others are used instead. Run: tillmesh run --check-config",
                "La configuration contient des valeurs non permises ; d'autres sont utilisées. Lancez : tillmesh run --check-config",
                "تحتوي الإعدادات على قيم غير مسموحة وتُستخدم قيم أخرى بدلها. شغّل: tillmesh run --check-config",
            ),
            Self::StoreKeyExposed => (
                "Others may know this store's key. Make the config readable by the agent alone, or make a new store: tillmesh store new",
                "La clé de ce magasin peut être connue d'autres. Rendez la configuration lisible par l'agent seul, ou créez un magasin : tillmesh store new",
                "قد يعرف آخرون مفتاح هذا المتجر. اجعل ملف الإعدادات مقروءا للبرنامج وحده أو أنشئ متجرا جديدا: tillmesh store new",
            ),
        };
        Texts { en, fr, ar }
    }
}

impl Alerts {
    /// Says whether a cause is at work. `now` is monotonic, `wall_ms` since 1970; both in milliseconds.
    pub(super) fn set(&mut self, now: u64, wall_ms: u64, code: Code, subject: &str, cause: Option<String>) {
        let key = (code, subject.to_owned());
        match cause {
            None => {
                self.causes.remove(&key);
            }
            Some(detail) if self.causes.len() < CAUSES_MAX || self.causes.contains_key(&key) => {
                let fresh = Cause { began: now, since_ms: wall_ms, detail: String::new() };
                self.causes.entry(key).or_insert(fresh).detail = detail;
            }
            Some(_) => {}
        }
    }

    /// Forgets causes of a code whose subject is not among those that still are.
    pub(super) fn keep(&mut self, code: Code, still: impl Fn(&str) -> bool) {
        self.causes.retain(|(c, subject), _| *c != code || still(subject));
    }

    /// The alerts that are raised.
    pub(super) fn raised(&self, now: u64) -> Vec<Alert> {
        let lasting = self.causes.iter().filter(|((code, _), c)| now >= c.began + code.delay_ms());
        lasting
            .map(|((code, subject), c)| Alert {
                code: *code,
                subject: subject.clone(),
                since_ms: c.since_ms,
                detail: c.detail.clone(),
            })
            .collect()
    }

    /// When the next alert is raised, if its cause stays.
    pub(super) fn next(&self, now: u64) -> Option<u64> {
        self.causes.iter().map(|((code, _), c)| c.began + code.delay_ms()).filter(|at| *at > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disconnected_is_raised_after_a_minute_exactly_and_cleared_at_once() {
        let mut alerts = Alerts::default();
        alerts.set(1_000, 5, Code::Disconnected, "", Some(String::new()));
        alerts.set(30_000, 6, Code::Disconnected, "", Some("cable".into()));
        assert!(alerts.raised(60_999).is_empty());
        assert_eq!(alerts.next(60_999), Some(61_000));
        let raised = alerts.raised(61_000);
        assert_eq!((raised.len(), raised[0].since_ms, raised[0].detail.as_str()), (1, 5, "cable"));
        alerts.set(61_001, 7, Code::Disconnected, "", None);
        assert!(alerts.raised(u64::MAX).is_empty());
    }

    #[test]
    fn a_peer_is_unreachable_after_five_minutes_and_forgotten_with_the_peer() {
        let mut alerts = Alerts::default();
        alerts.set(0, 0, Code::PeerUnreachable, "a", Some(String::new()));
        alerts.set(0, 0, Code::PeerUnreachable, "b", Some(String::new()));
        assert_eq!(alerts.raised(299_999).len(), 0);
        assert_eq!(alerts.raised(300_000).len(), 2);
        alerts.keep(Code::PeerUnreachable, |subject| subject == "b");
        assert_eq!(alerts.raised(300_000).len(), 1);
    }

    #[test]
    fn causes_are_bounded() {
        let mut alerts = Alerts::default();
        for i in 0..10_000 {
            alerts.set(0, 0, Code::WrongStoreKey, &i.to_string(), Some(String::new()));
        }
        assert_eq!(alerts.raised(0).len(), CAUSES_MAX);
    }
}
