"""Full-text search over what a tenant's people say, Korean included, fed by the change feed.

    firebreak changes --tenant acme | python3 search.py index.db
    firebreak changes --tenant acme --from "$(python3 search.py index.db --cursor)" | python3 search.py index.db
    python3 search.py index.db --find 안녕

Needs nothing but Python (SQLite 3.34 or later, for the trigram tokenizer of FTS5). A cursor is stored in one
transaction with what it stands behind. So a feed that broke off goes on where it was, and what comes again changes
nothing: a message is stored under its conversation and seq.

Trigrams find no word of two characters, and most Korean words have two syllables. So the index holds texts in
decomposed letters (Unicode's NFD): 안녕 is six of them, ㅇㅏㄴㄴㅕㅇ, and is found.
"""

import argparse
import json
import sqlite3
import sys
import unicodedata

SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
  id INTEGER PRIMARY KEY, conversation TEXT, incarnation INTEGER, seq INTEGER, revision INTEGER,
  sender TEXT, text TEXT, UNIQUE (conversation, seq));
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5 (letters, tokenize = 'trigram');
CREATE TABLE IF NOT EXISTS feed (one INTEGER PRIMARY KEY CHECK (one = 1), cursor TEXT);
"""


def letters(text):
    """A text as the index holds it: decomposed, without differences of case."""
    return unicodedata.normalize("NFD", text).casefold()


def forget(db, rows):
    for (row,) in rows.fetchall():
        db.execute("DELETE FROM words WHERE rowid = ?", (row,))
        db.execute("DELETE FROM message WHERE id = ?", (row,))


def take(db, change):
    """Stores one change; one that is known, or older than what is known, changes nothing."""
    conversation, incarnation = change["conversation"], change["incarnation"]
    # What a former life of the conversation held is gone, and all of it when it was deleted.
    ended = incarnation + (1 if "deleted" in change else 0)
    forget(db, db.execute(
        "SELECT id FROM message WHERE conversation = ? AND incarnation < ?", (conversation, ended)))
    if "trimmed" in change:
        forget(db, db.execute(
            "SELECT id FROM message WHERE conversation = ? AND seq < ?",
            (conversation, change["trimmed"]["min_seq"])))
    message = change.get("message")
    if message is None:
        return
    known = db.execute(
        "SELECT id, revision FROM message WHERE conversation = ? AND seq = ?", (conversation, message["seq"]))
    row = known.fetchone()
    if row and row[1] >= change["revision"]:
        return
    if row:
        forget(db, db.execute("SELECT id FROM message WHERE id = ?", (row[0],)))
    if "redact_time" in message or "text" not in message:
        return
    added = db.execute(
        "INSERT INTO message (conversation, incarnation, seq, revision, sender, text) VALUES (?, ?, ?, ?, ?, ?)",
        (conversation, incarnation, message["seq"], change["revision"], message["sender"], message["text"]))
    db.execute("INSERT INTO words (rowid, letters) VALUES (?, ?)", (added.lastrowid, letters(message["text"])))


def follow(db, lines):
    """Takes in the lines of `firebreak changes`, each part of them together with its cursor."""
    waiting = []
    for line in lines:
        told = json.loads(line)
        if "cursor" not in told:
            waiting.append(told)
            continue
        with db:
            for change in waiting:
                take(db, change)
            db.execute("INSERT OR REPLACE INTO feed VALUES (1, ?)", (told["cursor"],))
        waiting.clear()


def find(db, text):
    wanted = letters(text)
    if len(wanted) < 3:
        sys.exit("look for three letters or more; a Korean syllable has two or three")
    quoted = '"' + wanted.replace('"', '""') + '"'
    rows = db.execute(
        "SELECT conversation, seq, sender, text FROM words JOIN message ON message.id = words.rowid "
        "WHERE words MATCH ? ORDER BY conversation, seq", (quoted,))
    for conversation, seq, sender, said in rows:
        print(f"{conversation}/messages/{seq}\t{sender}\t{said}")


def main():
    parser = argparse.ArgumentParser(description="Search what a tenant's people say.")
    parser.add_argument("database")
    parser.add_argument("--find", metavar="TEXT", help="print the messages that hold this")
    parser.add_argument("--cursor", action="store_true", help="print where the feed is to go on")
    given = parser.parse_args()
    db = sqlite3.connect(given.database)
    db.executescript(SCHEMA)
    if given.find:
        find(db, given.find)
    elif given.cursor:
        row = db.execute("SELECT cursor FROM feed").fetchone()
        print(row[0] if row else "")
    else:
        follow(db, sys.stdin)


if __name__ == "__main__":
    main()
