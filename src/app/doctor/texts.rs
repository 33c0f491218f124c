//! What findings say, in the languages of the shops: what it is, and what to do. Those that are alerts as well say what the alert says.

use super::super::alerts::{self, Code};
use crate::api::{Severity, Words};

/// A finding of the doctor's own.
struct Own {
    code: &'static str,
    severity: Severity,
    en: &'static str,
    fr: &'static str,
    ar: &'static str,
}

static OWN: [Own; 14] = [
    Own {
        code: "noAgent",
        severity: Severity::Critical,
        en: "The agent does not run on this till, or does not answer. Start it (systemctl start tillmesh) and read its log (journalctl -u tillmesh).",
        fr: "L'agent ne tourne pas sur cette caisse, ou ne répond pas. Démarrez-le (systemctl start tillmesh) et lisez son journal (journalctl -u tillmesh).",
        ar: "الوكيل لا يعمل على هذا الصندوق أو لا يجيب. شغّله (systemctl start tillmesh) واقرأ سجله (journalctl -u tillmesh).",
    },
    Own {
        code: "apiPortInUse",
        severity: Severity::Critical,
        en: "Another program uses the port of the local API, so the agent cannot start. Stop that program or change api.listen.",
        fr: "Un autre programme occupe le port de l'API locale : l'agent ne peut pas démarrer. Arrêtez-le ou changez api.listen.",
        ar: "برنامج آخر يستخدم منفذ الواجهة المحلية فلا يستطيع الوكيل البدء. أوقف ذلك البرنامج أو غيّر api.listen.",
    },
    Own {
        code: "firewallClosed",
        severity: Severity::Critical,
        en: "This till's own firewall closes the port for other tills. Open it for the local network (TCP, the port under p2p.port), for example as in config/nftables.conf.",
        fr: "Le pare-feu de cette caisse ferme le port des autres caisses. Ouvrez-le pour le réseau local (TCP, le port de p2p.port), par exemple comme dans config/nftables.conf.",
        ar: "جدار الحماية في هذا الصندوق يغلق المنفذ أمام الصناديق الأخرى. افتحه للشبكة المحلية (TCP، المنفذ المذكور في p2p.port)، مثلا كما في config/nftables.conf.",
    },
    Own {
        code: "peerFirewall",
        severity: Severity::Warning,
        en: "A till is on the network and its firewall lets nobody in. Open TCP port 3030 (or its p2p.port) on that till for the local network; run the doctor there as root.",
        fr: "Une caisse est sur le réseau et son pare-feu ne laisse entrer personne. Ouvrez-y le port TCP 3030 (ou son p2p.port) pour le réseau local ; lancez-y doctor en root.",
        ar: "أحد الصناديق موجود على الشبكة وجدار حمايته لا يسمح بالدخول. افتح فيه منفذ TCP 3030 (أو p2p.port الخاص به) للشبكة المحلية؛ وشغّل doctor هناك كمستخدم root.",
    },
    Own {
        code: "peerNotListening",
        severity: Severity::Warning,
        en: "A box is there, and no agent listens on the port. Start the agent on it, and check that both use the same port.",
        fr: "Un boîtier est là, mais aucun agent n'écoute sur ce port. Démarrez-y l'agent et vérifiez que le port est le bon.",
        ar: "الجهاز موجود ولا يوجد وكيل يستمع على المنفذ. شغّل الوكيل عليه وتحقق من أن المنفذ هو نفسه.",
    },
    Own {
        code: "peerAway",
        severity: Severity::Warning,
        en: "A till does not answer at its address. Check that it is on, its cable or Wi-Fi, and that its address has not changed.",
        fr: "Une caisse ne répond pas à son adresse. Vérifiez qu'elle est allumée, son câble ou son Wi-Fi, et que son adresse n'a pas changé.",
        ar: "أحد الصناديق لا يجيب على عنوانه. تحقق من أنه مشغل ومن الكابل أو الواي فاي ومن أن عنوانه لم يتغير.",
    },
    Own {
        code: "otherSubnet",
        severity: Severity::Warning,
        en: "A till is in another network than this one, and there is no way between them. Put both in one network (same router or Wi-Fi, no guest network), or let the router pass TCP 3030 and list the till under peers.",
        fr: "Une caisse est dans un autre réseau que celle-ci, sans passage entre les deux. Mettez-les dans le même réseau (même routeur ou Wi-Fi, pas de réseau invité), ou laissez passer TCP 3030 et inscrivez la caisse sous peers.",
        ar: "أحد الصناديق في شبكة أخرى ولا طريق بين الشبكتين. ضعهما في شبكة واحدة (نفس الموجه أو الواي فاي، دون شبكة ضيوف)، أو اسمح بمرور TCP 3030 واذكر الصندوق تحت peers.",
    },
    Own {
        code: "multicastFiltered",
        severity: Severity::Warning,
        en: "Tills reach each other and do not hear each other by mDNS: the network filters multicast. Allow it (IGMP snooping, Wi-Fi client isolation), or list the tills under peers; known tills stay linked.",
        fr: "Les caisses se joignent mais ne s'entendent pas par mDNS : le réseau filtre le multicast. Autorisez-le (IGMP snooping, isolation Wi-Fi) ou inscrivez les caisses sous peers ; celles qui sont connues restent liées.",
        ar: "الصناديق متصلة لكنها لا تسمع بعضها عبر mDNS: الشبكة تمنع البث المتعدد. اسمح به (IGMP snooping وعزل عملاء الواي فاي) أو اذكر الصناديق تحت peers؛ وتبقى المعروفة متصلة.",
    },
    Own {
        code: "posplusNotConnected",
        severity: Severity::Warning,
        en: "A POSPlus till is not connected. Check that it is on, that POSPlus runs on it, its network and its firewall (TCP 3030). If it has been replaced for good, take its address out of posplus.allow.",
        fr: "Une caisse POSPlus n'est pas connectée. Vérifiez qu'elle est allumée, que POSPlus y tourne, son réseau et son pare-feu (TCP 3030). Si elle est remplacée pour de bon, retirez son adresse de posplus.allow.",
        ar: "أحد صناديق POSPlus غير متصل. تحقق من أنه مشغل وأن POSPlus يعمل عليه ومن شبكته وجدار حمايته (TCP 3030). إذا استُبدل نهائيا، احذف عنوانه من posplus.allow.",
    },
    Own {
        code: "posplusOff",
        severity: Severity::Warning,
        en: "A POSPlus till is on the network, and this till lets none in: posplus.enabled is off. While POSPlus tills are in the shop, turn it on and name their addresses in posplus.allow.",
        fr: "Une caisse POSPlus est sur le réseau et cette caisse n'en accepte aucune : posplus.enabled est désactivé. Tant qu'il y a des caisses POSPlus, activez-le et inscrivez leurs adresses dans posplus.allow.",
        ar: "يوجد صندوق POSPlus على الشبكة وهذا الصندوق لا يقبل أيا منها: posplus.enabled متوقف. ما دامت صناديق POSPlus في المحل، شغّله واذكر عناوينها في posplus.allow.",
    },
    Own {
        code: "posplusNotAllowed",
        severity: Severity::Warning,
        en: "A POSPlus till is on the network, and its address is not in posplus.allow. If it is one of this shop, add the address to the config of every till; if nobody knows it, look for what it is.",
        fr: "Une caisse POSPlus est sur le réseau et son adresse n'est pas dans posplus.allow. Si elle est de ce magasin, ajoutez l'adresse à la configuration de chaque caisse ; si personne ne la connaît, cherchez ce que c'est.",
        ar: "يوجد صندوق POSPlus على الشبكة وعنوانه غير مذكور في posplus.allow. إن كان من هذا المحل فأضف العنوان إلى إعدادات كل صندوق؛ وإن لم يعرفه أحد فابحث عن حقيقته.",
    },
    Own {
        code: "posplusOurId",
        severity: Severity::Warning,
        en: "A POSPlus till has the posId of one of our tills and is not let in. Give one of the two another posId in its pos-config.json, and restart it.",
        fr: "Une caisse POSPlus a le posId d'une de nos caisses et n'est pas acceptée. Donnez un autre posId à l'une des deux dans son pos-config.json, puis redémarrez-la.",
        ar: "لأحد صناديق POSPlus نفس posId لأحد صناديقنا ولذلك لا يُقبل. أعط أحدهما posId آخر في ملفه pos-config.json ثم أعد تشغيله.",
    },
    Own {
        code: "diskFull",
        severity: Severity::Critical,
        en: "The disk of this till's data is full: sales cannot be stored. Free space on it or put in a larger card; what was acknowledged is safe.",
        fr: "Le disque des données de cette caisse est plein : les ventes ne peuvent pas être enregistrées. Libérez de l'espace ou mettez une carte plus grande ; ce qui a été confirmé est sauf.",
        ar: "قرص بيانات هذا الصندوق ممتلئ فلا يمكن حفظ المبيعات. وفر مساحة أو ضع بطاقة أكبر؛ ما تم تأكيده محفوظ.",
    },
    Own {
        code: "p2pOff",
        severity: Severity::Info,
        en: "This till does not link with others: P2P is turned off. Turn it on at the status page, or with p2p.enabled in the config.",
        fr: "Cette caisse ne se lie pas aux autres : le P2P est désactivé. Activez-le sur la page d'état, ou par p2p.enabled dans la configuration.",
        ar: "هذا الصندوق لا يتصل بغيره: P2P متوقف. شغّله من صفحة الحالة أو عبر p2p.enabled في الإعدادات.",
    },
];

/// How pressing a finding is, and what it says. A code of a newer version says its name.
pub(super) fn of(code: &str) -> (Severity, Words) {
    let words = |en: &str, fr: &str, ar: &str| Words { en: en.to_owned(), fr: fr.to_owned(), ar: ar.to_owned() };
    if let Some(own) = OWN.iter().find(|own| own.code == code) {
        return (own.severity, words(own.en, own.fr, own.ar));
    }
    match Code::named(code) {
        Some(code) => {
            let texts = code.texts();
            (alerts::tell_severity(code.severity()), words(texts.en, texts.fr, texts.ar))
        }
        None => (Severity::Warning, words(code, code, code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_an_alerts_and_all_say_something() {
        for own in &OWN {
            assert!(Code::named(own.code).is_none(), "{}", own.code);
            assert!([own.en, own.fr, own.ar].iter().all(|text| text.len() > 40), "{}", own.code);
        }
        assert_eq!(of("wrongStoreKey").0, Severity::Warning);
        assert_eq!(of("of-tomorrow").1.en, "of-tomorrow");
    }
}
