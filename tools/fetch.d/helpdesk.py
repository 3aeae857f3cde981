# SPDX-License-Identifier: Apache-2.0
"""helpdesk.py HELP_FOLDER OUT [MINIMUM]: question-and-answer rows in French and English out of the GNOME user documentation.

HELP_FOLDER holds C/gnome-help/*.page and fr/gnome-help/*.page (Mallard XML); OUT gets train.jsonl and heldout.jsonl, one
{"prompt":[{"role":"user",…}],"completion":[{"role":"assistant",…}]} a line. A page's title becomes the question, its text the answer,
cut at a step or paragraph; each titled section becomes a row of its own. The split hashes the page's id, so both translations of a
page are on the same side. Same input, same bytes out.
"""
import hashlib
import json
import os
import re
import sys
import xml.etree.ElementTree as ET

MALLARD = "{http://projectmallard.org/1.0/}"
CHOOSE = "{http://projectmallard.org/if/1.0/}"
HELDOUT_SHARE = 10  # one page in ten
LIMIT = {"en": 860, "fr": 720}  # characters of an answer: about 200 tokens of a Gemma or Llama tokenizer
SKIP = {"about-this-guide", "get-involved", "translate", "help-irc", "help-mailing-list", "index", "legal"}

VERBS = set("""add adjust automatically browse cancel change check choose click configure connect control copy create define delete
determine disconnect edit enable enter find flash get have hide link log magnify make manage manually map maximize middle-click move open
pin preview print purge read recover remove rename repair restore safely search select send set share show simulate sort start switch test
tile turn use wipe write adjust calibrate""".split())

# French titles are nominal ("Activation des touches rebond"): the question needs the infinitive.
INFINITIVES = {
    "Activation": "activer", "Affichage": "afficher", "Agrandissement": "agrandir", "Ajout": "ajouter", "Annulation": "annuler",
    "Association": "associer", "Attribution": "attribuer", "Changement": "changer", "Choix": "choisir", "Configuration": "configurer",
    "Connexion": "connecter", "Consultation": "consulter", "Contrôle": "contrôler", "Copie": "copier", "Création": "créer",
    "Désactivation": "désactiver", "Déconnexion": "déconnecter", "Définition": "définir", "Démontage": "démonter",
    "Déplacement": "déplacer", "Détection": "détecter", "Effacement": "effacer", "Envoi": "envoyer", "Étalonnage": "étalonner",
    "Gestion": "gérer", "Importation": "importer", "Impression": "imprimer", "Inversion": "inverser", "Juxtaposition": "juxtaposer",
    "Lancement": "lancer", "Masquage": "masquer", "Modification": "modifier", "Obtention": "obtenir", "Ouverture": "ouvrir",
    "Partage": "partager", "Purge": "vider", "Réception": "recevoir", "Recherche": "trouver", "Réglage": "régler",
    "Réparation": "réparer", "Restauration": "restaurer", "Saisie": "saisir", "Sélection": "sélectionner", "Simulation": "simuler",
    "Suppression": "supprimer", "Test": "tester", "Tri": "trier", "Utilisation": "utiliser", "Vérification": "vérifier",
    "Écriture": "écrire", "suppression": "supprimer", "désactivation": "désactiver", "déplacement": "déplacer",
    "redimensionnement": "redimensionner", "Maximisation": "maximiser", "réduction": "réduire", "limitation": "limiter",
    "Arrêt": "arrêter", "Autorisation": "autoriser", "blocage": "bloquer", "Basculement": "basculer",
}
MINE = {  # "votre X": feminine nouns that start with a consonant; every other noun takes "mon"
    "sauvegarde", "sécurité", "position", "photo", "musique", "batterie", "session", "souris", "tablette", "corbeille", "connexion"}


def squeeze(text):
    """One line, ordinary spaces; French no-break spaces before punctuation become plain ones."""
    return re.sub(r"[\s\u00a0\u202f]+", " ", text).strip()


class Page:
    def __init__(self, path):
        self.root = ET.parse(path).getroot()
        self.id = os.path.basename(path)[: -len(".page")]
        self.title = self.heading(self.root)

    def heading(self, element):
        for child in element:
            if child.tag == MALLARD + "title" and not child.get("type"):
                return squeeze(self.inline(child))
        return ""

    titles = {}  # of the language being read: page id → title, for links without a text

    def inline(self, element):
        """The text of an inline element: pictures dropped, key sequences joined, empty links replaced by their page's title."""
        tag = element.tag.rsplit("}", 1)[-1]
        if tag in ("media", "comment", "info"):
            return ""
        children = [c for c in self.alternatives(element)]
        if tag in ("keyseq", "guiseq"):
            return ("+" if tag == "keyseq" else " → ").join(squeeze(self.inline(c)) for c in children if squeeze(self.inline(c)))
        text = element.text or ""
        for child in children:
            text += self.inline(child) + (child.tail or "")
        if tag == "link" and not text.strip():
            text = self.titles.get((element.get("xref") or "").split("#")[0], "")
            text = f"« {text} »" if self.titles.get("") == "fr" and text else f'"{text}"' if text else ""
        return text

    @staticmethod
    def for_classic(element):
        """Whether an if: condition asks for GNOME Classic; answers are about the ordinary desktop."""
        test = element.get("test") or element.get(CHOOSE + "test") or ""
        return "classic" in test and "!" not in test

    @staticmethod
    def alternatives(element):
        """The children, with if: elements replaced by their branch for the ordinary desktop."""
        for child in element:
            if child.tag == CHOOSE + "choose":
                plain = [c for c in child if c.tag != CHOOSE + "when"] or [c for c in child if not Page.for_classic(c)][:1]
                for branch in plain:
                    yield from (Page.alternatives(branch) if branch.tag.startswith(CHOOSE) else [branch])
            elif Page.for_classic(child):
                continue
            elif child.tag == CHOOSE + "if":
                yield from Page.alternatives(child)
            else:
                yield child

    def blocks(self, element, sections):
        """The answer's lines in order; titled sections are collected into `sections` instead."""
        out = []
        for child in self.alternatives(element):
            tag = child.tag.rsplit("}", 1)[-1]
            if tag == "p":
                out.append(squeeze(self.inline(child)))
            elif tag in ("steps", "list", "terms"):
                out += self.listing(child, tag)
            elif tag in ("note", "div", "synopsis"):
                out += self.blocks(child, sections)
            elif tag in ("screen", "code", "example"):
                out.append(squeeze(self.inline(child)))
            elif tag == "section":
                heading, inner = self.heading(child), []
                lines = self.blocks(child, inner)
                if heading and lines:
                    sections.append((heading, lines))
                sections += inner
        return [line for line in out if line]

    def listing(self, element, kind):
        out = []
        heading = self.heading(element)
        if heading:
            out.append(heading)
        number = 0
        for item in element.findall(MALLARD + "item"):
            text = " ".join(self.blocks(item, []))
            if not text:
                continue
            number += 1
            if kind == "steps":
                text = f"{number}. {text}"
            elif kind == "terms":
                text = f"{self.heading(item)} : {text}" if self.titles.get("") == "fr" else f"{self.heading(item)}: {text}"
            out.append(text if kind == "steps" else "- " + text)
        return out


def cut(lines, limit):
    """As many whole lines as fit; a first line that is too long is cut after a sentence."""
    kept, size = [], 0
    for line in lines:
        if size + len(line) > limit:
            break
        kept.append(line)
        size += len(line) + 1
    if not kept:
        ends = [m.end() for m in re.finditer(r"[.!?](?= )", lines[0]) if m.end() <= limit]
        return lines[0][: ends[-1]] if ends else ""
    while kept and kept[-1].endswith(":"):  # an announcement whose list was cut away
        kept.pop()
    return "\n".join(kept)


def lower_first(text):
    word = text.split()[0]
    return text if word[1:] != word[1:].lower() or word in ("Bluetooth", "Wacom", "Internet") else text[0].lower() + text[1:]


def mine(match):
    return {"vos": "mes"}.get(match[1], "ma" if match[2].lower() in MINE else "mon") + " " + match[2]


def own_french(text):
    return re.sub(r"\b(votre|vos) (\w+)", mine, text)


def own_english(text):
    return re.sub(r"\byou\b(?= \w)", "I", re.sub(r"\byour\b", "my", text))


FORMS = {"du": "le ", "de la": "la ", "de l’": "l’", "des": "les ", "d’un": "un ", "d’une": "une ", "de votre": "votre ", "de vos": "vos ",
         "de mon": "mon ", "de": "des ", "d’": "des "}
ARTICLE = r"(du|de la|de l’|des|d’une?|de votre|de vos|de mon|de|d’)(?: |(?<=’))"


def direct_object(text):
    """"de la date et de l’heure" → "la date et l’heure"; None when the text is no complement of a noun."""
    found = re.match(ARTICLE + "(.*)", text)
    if not found:
        return None
    article, tail = found[1], found[2]
    if article in ("de", "d’") and re.match(r"(certaines?|autres?)\b", tail):
        return ("" if tail.startswith("certain") else "d’") + tail
    second = re.match(r"((?:(?! de | du | des | d’).)+ (?:et|ou) )" + ARTICLE + "(.*)", tail)
    if second:
        tail = second[1] + FORMS[second[2]] + second[3]
    return FORMS[article] + tail


def ask_french(title, desc, style):
    if title.endswith("?"):
        return own_french(title)
    noun, _, rest = title.partition(" ")
    what = re.match(r"Définition d’(une? .*)", title)
    if what and "task" not in style:
        return f"Qu’est-ce qu’{what[1]} ?"
    if re.match(r"(Impossible|Absence|Pas de|Problèmes?|L’|Le |La |D’autres|J’|Mon )", title):
        return own_french(title) + ". Que faire ?"
    verbs = [INFINITIVES[noun]] if noun in INFINITIVES else []
    second = re.match(r"(?:ou|et) (\w+) (.*)", rest)
    if verbs and second and second[1] in INFINITIVES:
        verbs.append(rest.split(" ")[0] + " " + INFINITIVES[second[1]])
        rest = second[2]
    elif second:
        verbs = []
    complement = direct_object(rest)
    if verbs and complement:
        return "Comment " + own_french(" ".join(verbs) + " " + complement) + " ?"
    if re.match(r"\w+(er|ir|re)\b", desc) and len(desc) < 90 and not re.search(r"\b(est|sont|vous|Appuyer|Avoir)\b|\. ", desc):
        return "Comment " + own_french(lower_first(desc.rstrip("."))) + " ?"
    return "J’ai besoin d’aide : " + own_french(lower_first(title)) + "."


def ask_english(title, desc, style):
    del style
    if title.endswith("?"):
        return title
    if re.match(r"(How|What|Where|Which) to ", title):
        word, _, rest = title.partition(" to ")
        return word + (" do I " if word == "How" else " should I ") + own_english(rest) + "?"
    if title.split()[0].lower() in VERBS:
        return "How do I " + own_english(lower_first(title)) + "?"
    if re.match(r"(I|I’ve|My|Other|The .* (is|gets|seems|locks)|Mouse .* (is|reacts))\b", title):
        return title + ". What should I do?"
    if desc and desc.split()[0].lower() in VERBS and len(desc) < 90 and ". " not in desc:
        return "How do I " + own_english(lower_first(desc.rstrip("."))) + "?"
    return "I need help with this: " + lower_first(title) + "."


def about(language, title, heading):
    if language == "fr":
        heading = own_french(heading.rstrip(" ?:")) + " ?"
        return f"À propos de « {title.rstrip(' ?')} » : {lower_first(heading)}"
    return f"About \"{title.rstrip(' ?')}\": {lower_first(own_english(heading.rstrip(' ?:')))}?"


def rows_of(page, language):
    """(question, answer lines) of a page and of each of its titled sections."""
    sections = []
    lines = page.blocks(page.root, sections)
    desc = page.root.find(MALLARD + "info/" + MALLARD + "desc")
    desc = squeeze(page.inline(desc)) if desc is not None else ""
    if lines:
        yield (ask_french if language == "fr" else ask_english)(page.title, desc, page.root.get("style") or ""), lines
    for heading, inner in sections:
        yield about(language, page.title, heading), inner


def main(help_folder, out, minimum="400"):
    pages = {}
    for language, folder in (("en", "C"), ("fr", "fr")):
        base = os.path.join(help_folder, folder, "gnome-help")
        pages[language] = {p.id: p for p in (Page(os.path.join(base, n)) for n in sorted(os.listdir(base)) if n.endswith(".page"))}
    sides = {"train": [], "heldout": []}
    english_lines = set()
    for language in ("en", "fr"):
        Page.titles = {**{i: p.title for i, p in pages[language].items()}, "": language}
        for name, page in sorted(pages[language].items()):
            if name in SKIP or name not in pages["fr"]:
                continue
            side = "heldout" if hashlib.sha256(name.encode()).digest()[0] % HELDOUT_SHARE == 0 else "train"
            for question, lines in rows_of(page, language):
                lines = [line for line in lines if line]
                stripped = {re.sub(r"^(\d+\.|-) ", "", line) for line in lines}
                if language == "en":
                    english_lines |= {line for line in stripped if len(line) > 20}
                elif stripped & english_lines:  # a paragraph without a translation
                    continue
                answer = cut(lines, LIMIT[language])
                if len(answer) >= 80:
                    sides[side].append((name, language, question, answer))
    os.makedirs(out, exist_ok=True)
    for side, rows in sides.items():
        seen = set()
        with open(os.path.join(out, side + ".jsonl"), "w", encoding="utf-8") as f:
            for name, language, question, answer in sorted(rows, key=lambda row: row[0]):
                if (question, answer) in seen:
                    continue
                seen.add((question, answer))
                row = {"prompt": [{"role": "user", "content": question}], "completion": [{"role": "assistant", "content": answer}],
                       "lang": language, "page": name}
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(f"helpdesk: {side}: {len(seen)} rows", file=sys.stderr)
    if len(sides["train"]) < int(minimum):
        sys.exit(f"helpdesk: error: fewer than {minimum} training rows came out; has the layout of gnome-user-docs changed?")


if __name__ == "__main__":
    main(*sys.argv[1:])
