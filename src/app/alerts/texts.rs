//! What alerts say, in the languages of the shops: what it is, and what to do.

use super::{Code, Texts};

/// One entry a code.
pub(super) static TEXTS: [(Code, Texts); 31] = [
    (
        Code::Disconnected,
        Texts {
            en: "No other till is linked. Selling goes on. Check the network cable or Wi-Fi, and that the other tills are on.",
            fr: "Aucune autre caisse n'est connectée. La vente continue. Vérifiez le câble réseau ou le Wi-Fi, et que les autres caisses sont allumées.",
            ar: "لا يوجد أي صندوق آخر متصل. البيع مستمر. تحقق من كابل الشبكة أو الواي فاي ومن أن الصناديق الأخرى مشغلة.",
        },
    ),
    (
        Code::PeerUnreachable,
        Texts {
            en: "A till of the store cannot be reached. Check that it is on and on the same network.",
            fr: "Une caisse du magasin est injoignable. Vérifiez qu'elle est allumée et sur le même réseau.",
            ar: "تعذر الوصول إلى أحد صناديق المتجر. تحقق من أنه مشغل وعلى نفس الشبكة.",
        },
    ),
    (
        Code::PortInUse,
        Texts {
            en: "Another program uses this till's port, so other tills cannot reach it. Stop that program or change p2p.port.",
            fr: "Un autre programme occupe le port de cette caisse : les autres ne peuvent pas la joindre. Arrêtez-le ou changez p2p.port.",
            ar: "برنامج آخر يستخدم منفذ هذا الصندوق فلا تستطيع الصناديق الأخرى الوصول إليه. أوقف ذلك البرنامج أو غيّر p2p.port.",
        },
    ),
    (
        Code::MulticastBlocked,
        Texts {
            en: "Tills cannot be found by themselves. Allow mDNS (UDP 5353) in the network, or list the tills under peers in the config.",
            fr: "Les caisses ne se trouvent pas d'elles-mêmes. Autorisez mDNS (UDP 5353) ou inscrivez-les sous peers dans la configuration.",
            ar: "لا يمكن العثور على الصناديق تلقائيا. اسمح بـ mDNS (UDP 5353) أو اذكر الصناديق تحت peers في الإعدادات.",
        },
    ),
    (
        Code::ClockUntrusted,
        Texts {
            en: "This till's clock is not known to be right. Connect it to the internet or a time server; sales keep their order meanwhile.",
            fr: "L'heure de cette caisse n'est pas sûre. Connectez-la à Internet ou à un serveur de temps ; l'ordre des ventes est gardé.",
            ar: "ساعة هذا الصندوق غير مؤكدة. صله بالإنترنت أو بخادم وقت؛ يبقى ترتيب المبيعات محفوظا.",
        },
    ),
    (
        Code::PeerClockAhead,
        Texts {
            en: "A till's clock is far ahead of this one's. Set the clock of that till.",
            fr: "L'horloge d'une caisse est très en avance sur celle-ci. Réglez l'heure de cette caisse-là.",
            ar: "ساعة أحد الصناديق متقدمة كثيرا. اضبط وقت ذلك الصندوق.",
        },
    ),
    (
        Code::Fork,
        Texts {
            en: "Two tills have written under one identity (a copied card or a restored backup). Nothing is lost; call the vendor.",
            fr: "Deux caisses ont écrit sous une même identité (carte copiée ou sauvegarde restaurée). Rien n'est perdu ; appelez le fournisseur.",
            ar: "كتب صندوقان بهوية واحدة (بطاقة منسوخة أو نسخة مستعادة). لم يضع شيء؛ اتصل بالمورد.",
        },
    ),
    (
        Code::Clone,
        Texts {
            en: "This till's data was used in another box before. It took a new identity; nothing is lost. If the other box is gone for good, retire its till.",
            fr: "Les données de cette caisse viennent d'un autre boîtier. Elle a pris une nouvelle identité ; rien n'est perdu. Si l'autre boîtier n'existe plus, retirez sa caisse.",
            ar: "بيانات هذا الصندوق كانت في جهاز آخر. أخذ هوية جديدة ولم يضع شيء. إذا لم يعد الجهاز الآخر موجودا فأخرج صندوقه من المتجر.",
        },
    ),
    (
        Code::Divergence,
        Texts {
            en: "Two tills hold the same changes and yet do not show the same data. It is being compared and fetched again; call the vendor if this stays.",
            fr: "Deux caisses ont les mêmes changements mais pas les mêmes données. Elles sont comparées et reprises ; appelez le fournisseur si cela dure.",
            ar: "صندوقان لديهما نفس التغييرات ولا يعرضان نفس البيانات. تجري المقارنة والجلب من جديد؛ اتصل بالمورد إن استمر ذلك.",
        },
    ),
    (
        Code::StoreDamaged,
        Texts {
            en: "Some data on this till's card has gone bad. It is fetched again from the other tills; replace the card soon.",
            fr: "Des données de la carte de cette caisse sont abîmées. Elles sont reprises des autres caisses ; remplacez bientôt la carte.",
            ar: "تلفت بعض البيانات على بطاقة هذا الصندوق. يجري جلبها من الصناديق الأخرى؛ استبدل البطاقة قريبا.",
        },
    ),
    (
        Code::StoreFault,
        Texts {
            en: "Sales cannot be stored on this till. Free space on its card or replace it; the earlier data is unharmed.",
            fr: "Les ventes ne peuvent pas être enregistrées sur cette caisse. Libérez de l'espace ou remplacez la carte ; les données sont intactes.",
            ar: "لا يمكن حفظ المبيعات على هذا الصندوق. وفر مساحة على البطاقة أو استبدلها؛ البيانات السابقة سليمة.",
        },
    ),
    (
        Code::CurrencyMismatch,
        Texts {
            en: "A till of this store counts in another currency and is refused. Give both the same store object in their config.",
            fr: "Une caisse de ce magasin compte dans une autre devise et est refusée. Donnez aux deux le même objet store.",
            ar: "أحد صناديق هذا المتجر يستعمل عملة أخرى وهو مرفوض. أعط كليهما نفس كائن store في الإعدادات.",
        },
    ),
    (
        Code::WrongStoreKey,
        Texts {
            en: "A till that says it is of this store has another store key and is refused. Copy the store object of a till that works.",
            fr: "Une caisse qui se dit de ce magasin a une autre clé et est refusée. Copiez l'objet store d'une caisse qui marche.",
            ar: "صندوق يدعي أنه من هذا المتجر لديه مفتاح آخر وهو مرفوض. انسخ كائن store من صندوق يعمل.",
        },
    ),
    (
        Code::VersionTooOld,
        Texts {
            en: "A till runs a version that this one cannot talk to. Update the older of the two.",
            fr: "Une caisse a une version avec laquelle celle-ci ne peut pas parler. Mettez à jour la plus ancienne.",
            ar: "أحد الصناديق يعمل بإصدار لا يستطيع هذا الصندوق التخاطب معه. حدّث الأقدم.",
        },
    ),
    (
        Code::OpsHeld,
        Texts {
            en: "This till keeps changes that it does not understand yet. Update this till; nothing is lost.",
            fr: "Cette caisse garde des changements qu'elle ne comprend pas encore. Mettez-la à jour ; rien n'est perdu.",
            ar: "يحتفظ هذا الصندوق بتغييرات لا يفهمها بعد. حدّثه؛ لم يضع شيء.",
        },
    ),
    (
        Code::ConfigDamaged,
        Texts {
            en: "The config file was damaged. It was moved aside and written anew; the till kept its identity. Check its settings.",
            fr: "Le fichier de configuration était abîmé. Il a été mis de côté et réécrit ; la caisse garde son identité. Vérifiez ses réglages.",
            ar: "كان ملف الإعدادات تالفا. نُقل جانبا وكُتب من جديد واحتفظ الصندوق بهويته. تحقق من إعداداته.",
        },
    ),
    (
        Code::ConfigInvalid,
        Texts {
            en: "The config file has values that are not allowed; others are used instead. Run: tillmesh run --check-config",
            fr: "La configuration contient des valeurs non permises ; d'autres sont utilisées. Lancez : tillmesh run --check-config",
            ar: "تحتوي الإعدادات على قيم غير مسموحة وتُستخدم قيم أخرى بدلها. شغّل: tillmesh run --check-config",
        },
    ),
    (
        Code::StoreKeyExposed,
        Texts {
            en: "Others may know this store's key. Make the config readable by the agent alone, or make a new store: tillmesh store new",
            fr: "La clé de ce magasin peut être connue d'autres. Rendez la configuration lisible par l'agent seul, ou créez un magasin : tillmesh store new",
            ar: "قد يعرف آخرون مفتاح هذا المتجر. اجعل ملف الإعدادات مقروءا للبرنامج وحده أو أنشئ متجرا جديدا: tillmesh store new",
        },
    ),
    (
        Code::DiskNearlyFull,
        Texts {
            en: "This till's card is nearly full. Selling goes on until it is; delete what is not needed, or put in a larger card.",
            fr: "La carte de cette caisse est presque pleine. La vente continue d'ici là ; effacez l'inutile ou mettez une carte plus grande.",
            ar: "بطاقة هذا الصندوق شبه ممتلئة. يستمر البيع إلى أن تمتلئ؛ احذف ما لا يلزم أو ضع بطاقة أكبر.",
        },
    ),
    (
        Code::DiskReadOnly,
        Texts {
            en: "This till's card can be read but not written: it has failed. Sales cannot be stored. Replace the card; what the other tills have comes back.",
            fr: "La carte de cette caisse se lit mais ne s'écrit plus : elle est en panne. Les ventes ne sont pas enregistrées. Remplacez-la ; ce que les autres caisses ont revient.",
            ar: "يمكن قراءة بطاقة هذا الصندوق ولا تمكن الكتابة عليها: لقد تعطلت. لا يمكن حفظ المبيعات. استبدل البطاقة؛ ما لدى الصناديق الأخرى يعود.",
        },
    ),
    (
        Code::DiskFailing,
        Texts {
            en: "This till's card says that it is worn out. Nothing is lost yet; replace the card soon.",
            fr: "La carte de cette caisse signale qu'elle est usée. Rien n'est perdu ; remplacez-la bientôt.",
            ar: "تقول بطاقة هذا الصندوق إنها بلغت نهاية عمرها. لم يضع شيء بعد؛ استبدل البطاقة قريبا.",
        },
    ),
    (
        Code::Undervoltage,
        Texts {
            en: "This till gets too little voltage, which damages cards and stops it at random. Use the power supply and the cable that belong to the box.",
            fr: "Cette caisse reçoit une tension trop basse, ce qui abîme la carte et l'arrête au hasard. Utilisez l'alimentation et le câble prévus.",
            ar: "جهد الكهرباء الواصل إلى هذا الصندوق منخفض، وهذا يتلف البطاقة ويوقفه فجأة. استعمل مزود الطاقة والكابل المخصصين له.",
        },
    ),
    (
        Code::OverTemperature,
        Texts {
            en: "This till is too hot and slows down. Let air reach it, and keep it away from heat and sun.",
            fr: "Cette caisse est trop chaude et ralentit. Laissez l'air circuler et éloignez-la de la chaleur et du soleil.",
            ar: "هذا الصندوق ساخن جدا ويتباطأ. دع الهواء يصل إليه وأبعده عن الحرارة والشمس.",
        },
    ),
    (
        Code::LedMissing,
        Texts {
            en: "The status LED of this till is not there or cannot be lit. Selling goes on. Check its wires, its overlay and led.board in the config.",
            fr: "Le voyant d'état de cette caisse est absent ou ne s'allume pas. La vente continue. Vérifiez ses fils, son overlay et led.board dans la configuration.",
            ar: "ضوء حالة هذا الصندوق غير موجود أو لا يمكن إشعاله. البيع مستمر. تحقق من أسلاكه ومن overlay ومن led.board في الإعدادات.",
        },
    ),
    (
        Code::BoardProfile,
        Texts {
            en: "A board file of this till has a mistake and is not used, or the one that the config names is not there. The detail says where.",
            fr: "Un fichier de carte mère de cette caisse est erroné et n'est pas utilisé, ou celui de la configuration n'existe pas. Le détail dit où.",
            ar: "في أحد ملفات لوحة هذا الصندوق خطأ فلا يُستعمل، أو أن الملف المذكور في الإعدادات غير موجود. التفاصيل تبين الموضع.",
        },
    ),
    (
        Code::BoxSetup,
        Texts {
            en: "The box could not be set up as its files say. Selling goes on; correct what is named here, and start the box again.",
            fr: "La caisse n'a pas pu être configurée comme ses fichiers le disent. La vente continue ; corrigez ce qui est nommé ici, puis redémarrez.",
            ar: "تعذر ضبط الصندوق كما تقول ملفاته. البيع مستمر؛ صحح ما هو مذكور هنا ثم أعد تشغيله.",
        },
    ),
    (
        Code::UpdateFailed,
        Texts {
            en: "The last update of this till did not stay, and the version before it runs. Selling goes on. Tell your vendor what the detail says.",
            fr: "La dernière mise à jour de cette caisse n'a pas été gardée et la version d'avant tourne. La vente continue. Transmettez le détail à votre fournisseur.",
            ar: "لم يثبت التحديث الأخير لهذا الصندوق وعادت النسخة السابقة إلى العمل. البيع مستمر. أبلغ المزود بما تقوله التفاصيل.",
        },
    ),
    (
        Code::UnauthenticatedPeer,
        Texts {
            en: "A POSPlus till is connected. It cannot prove who it is, and what goes over its link can be read. When the last one is gone, turn posplus.enabled off.",
            fr: "Une caisse POSPlus est connectée. Elle ne peut pas prouver son identité et ses échanges sont lisibles. Une fois la dernière partie, désactivez posplus.enabled.",
            ar: "صندوق POSPlus متصل. لا يمكنه إثبات هويته، وما يمر عبر اتصاله يمكن قراءته. عندما يُستبدل آخر واحد، أوقف posplus.enabled.",
        },
    ),
    (
        Code::OverRefund,
        Texts {
            en: "More was refunded of a sale than was sold, on two tills at once. Look at it in the list of what a person should settle.",
            fr: "Une vente a été remboursée au-delà de ce qui a été vendu, sur deux caisses à la fois. Voyez la liste de ce qui est à trancher.",
            ar: "أُرجع من عملية بيع أكثر مما بيع، على صندوقين في آن واحد. انظر قائمة ما يجب حسمه.",
        },
    ),
    (
        Code::NegativeStock,
        Texts {
            en: "More of a product was sold than was in stock. Selling goes on; count the product's stock.",
            fr: "Un produit a été vendu au-delà du stock. La vente continue ; comptez le stock de ce produit.",
            ar: "بيع من منتج أكثر مما في المخزون. البيع مستمر؛ اجرد مخزون هذا المنتج.",
        },
    ),
    (
        Code::PosplusStock,
        Texts {
            en: "A POSPlus till had another quantity of a product, and nobody can tell why. This shop's quantity stays on both: count the product.",
            fr: "Une caisse POSPlus avait une autre quantité d'un produit, sans qu'on puisse dire pourquoi. La quantité d'ici reste sur les deux : comptez le produit.",
            ar: "كانت لدى صندوق POSPlus كمية أخرى من منتج ولا يمكن معرفة السبب. تبقى كمية هذا المحل على الاثنين: اجرد المنتج.",
        },
    ),
];
