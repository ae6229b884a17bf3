"""Characters that pass for an ASCII one in common fonts. Data only: which of them are odd where stands in `marks`.

The letters are those that Unicode's `confusables.txt` (UTS 39) maps to one ASCII character, script by script. Of the
scripts that most people write in (Cyrillic, Greek, Armenian) only those are listed that pass at a glance, or every
short word would be marked; a word that mixes scripts is odd without this list.
"""

from __future__ import annotations

LOOKALIKES = frozenset(
    "𑜆𑜊𑜎𑜏"  # Ahom
    "օսոհցզգքԼՕՏՍ"  # Armenian
    "ꛟ"  # Bamum
    "ᐯᐳᐸᑊᑌᑭᑯᑲᒍᒪᒿᕁᕼᕽᖇᖯᖴᗅᗞᗪᗰᗷ"  # Canadian syllabics
    "𐊠𐊡𐊢𐊥𐊫𐊰𐊱𐊲𐊴𐋏"  # Carian
    "ᎠᎡᎢᎤᎥᎦᎩᎪᎫᎬᎮᎳᎷᎻᎽᏀᏂᏃᏅᏎᏏᏒᏔᏕᏙᏚᏞᏟᏢᏦᏧᏮᏳᏴꭵꮁꮃꮓꮩꮪꮯ"  # Cherokee
    "ϨⲅⲎⲒⲔⲘⲚⲞⲟⲢⲣⲤⲥⲦⲨⲬⲺⳆⳊⳌⳐⳒ"  # Coptic
    "аԁеһіјӏоԛрѕԝсхуүАВСЕНІЈКМОРЅТХУԌԚԜӀҮѴѵѡꙄꙇ"  # Cyrillic
    "𐐄𐐕𐐛𐐠𐐬𐐽𐑈"  # Deseret
    "ॽ"  # Devanagari
    "𐔓𐔖𐔘𐔜𐔝𐔥𐔦𐔧"  # Elbasan
    "ሀዐ"  # Ethiopic
    "ყჿ"  # Georgian
    "ορνικχυαγτΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲϳϜϺͿᴦ"  # Greek
    "ꓐꓑꓒꓓꓔꓖꓗꓙꓚꓜꓝꓟꓠꓡꓢꓣꓦꓧꓪꓫꓬꓮꓰꓲꓳꓴ"  # Lisu
    "𐊂𐊆𐊇𐊊𐊐𐊒𐊕𐊖𐊗𐊛"  # Lycian
    "ഠ"  # Malayalam
    "𖼈𖼊𖼖𖼨𖼵𖼺𖼻𖼿𖽀𖽂𖽃"  # Miao
    "ဝ"  # Myanmar
    "𐌁𐌂𐌉𐌑𐌕𐌗𐌚𐌟"  # Old Italic
    "ଠ"  # Oriya
    "𐒴𐓂𐓎𐓒𐓪𐓶"  # Osage
    "ᚲᚷᛁᛌᛕᛖ"  # Runic
    "ⴸⴹⵏⵑⵔⵕⵝ"  # Tifinagh
    "𑢠𑢢𑢣𑢤𑢦𑢩𑢬𑢮𑢯𑢲𑢵𑢸𑢻𑢼𑣀𑣁𑣂𑣃𑣄𑣆𑣈𑣊𑣌𑣕𑣖𑣗𑣘𑣜"  # Warang Citi
    "ı"  # Turkish
)
"""Letters that real words of their own language also use."""

ALWAYS_ODD = frozenset("ɑɡɩǀȷʟᴀʙᴄᴅᴇɢʜɪᴊᴋᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢƄƍƖƦƧƼƽȜȢȣɁɯᴑᶃᶌỿꝚꝪꝮꝸꞘꞙꞟꞫꞲꞳꞴꬲꬵꬽꭇꭈꭎꭒꭚ")
"""Phonetic and medieval Latin letters that no ordinary word needs."""

ODD_SIGNS = frozenset("∕⁄⧸╱․‥‐‑–−‒﹣˗։׃∶꞉ː‚ǃ⁎∗∖⧵ʹʺ″‹›﹫՚՝⁁⁃⁓⁚∣∼∨⋁∪⋃⟋⟍⧹⨯⤫⤬╳❨❩❮❯❲❳❴❵➕➖〔〕ꓸꓹꓽ꓿᐀᙮᛬᛭᜵᠃᠉⹀꘎︰﹘⍳⍴⍺℮")
"""Signs that pass for ASCII punctuation or a letter; odd beside ASCII letters and digits."""

CJK_SIGNS = frozenset("一ノ丶丿ー〇〳")
"""Characters that pass for a sign or an `O` where no other character of their script is beside them."""
