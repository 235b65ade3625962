"""The words of the pages, in the visitor's language.

A text is looked up by its English form: in OFFLOAD_WORDS, then in the catalogs of Flask-Babel, then
in the languages that come with this package.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from flask import current_app, has_app_context

from ..state import AppRegistry

NO_SUCH_JOB = (
    "There is no such job: it never existed, the time for which it is kept is over, or it is not"
    " yours."
)
DID_NOT_WORK = "That didn\N{RIGHT SINGLE QUOTATION MARK}t work"
NOT_SEEN = "This job can\N{RIGHT SINGLE QUOTATION MARK}t be seen any more."
UNAVAILABLE = "The job can't be read at the moment. Nothing is lost; try again soon."

GERMAN = {
    "Waiting to start": "Wartet auf den Start",
    "Trying again soon": "Gleich noch ein Versuch",
    "Working on it": "In Arbeit",
    "Stopping": "Wird angehalten",
    "Done": "Fertig",
    DID_NOT_WORK: "Das hat nicht geklappt",
    "Cancelled": "Abgebrochen",
    "Waiting for its time": "Wartet auf den vorgesehenen Zeitpunkt",
    "Done.": "Fertig.",
    "It failed.": "Es ist fehlgeschlagen.",
    "It was cancelled.": "Es wurde abgebrochen.",
    "It never started.": "Es hat nicht begonnen.",
    "Attempt {number} did not succeed.": "Versuch {number} ist nicht gelungen.",
    "Something went wrong while it ran.": "Dabei ist etwas schiefgegangen.",
    "{number}%": "{number}\N{NO-BREAK SPACE}%",
    "less than 10 s": "weniger als 10 s",
    "about {number} s": "etwa {number} s",
    "about {number} min": "etwa {number} min",
    "about {number} h": "etwa {number} h",
    "{time} left": "noch {time}",
    "{time} so far": "bisher {time}",
    "It took {time}.": "Es hat {time} gedauert.",
    "Reference: {id}": "Kennung: {id}",
    "Cancel": "Abbrechen",
    "Try again": "Noch einmal versuchen",
    "Run it again": "Noch einmal ausführen",
    "Show the result": "Ergebnis zeigen",
    "Back": "Zurück",
    "Progress": "Fortschritt",
    "Traceback, shown in debug mode only": "Traceback, nur im Debug-Modus zu sehen",
    "No connection. Trying again…": "Keine Verbindung. Neuer Versuch …",
    NOT_SEEN: "Dieser Auftrag ist nicht mehr zu sehen.",
    "Not Found": "Nicht gefunden",
    "Gone": "Nicht mehr vorhanden",
    "Too Many Requests": "Zu viele Anfragen",
    "Service Unavailable": "Im Moment nicht verfügbar",
    NO_SUCH_JOB: "Diesen Auftrag gibt es nicht: Es gab ihn nie, er wird nicht mehr aufbewahrt, oder"
    " es ist nicht Ihrer.",
    "The result is no longer kept.": "Das Ergebnis wird nicht mehr aufbewahrt.",
    UNAVAILABLE: "Der Auftrag kann im"
    " Moment nicht gelesen werden. Nichts ist verloren; versuchen Sie es bald noch einmal.",
}

SPANISH = {
    "Waiting to start": "En espera",
    "Trying again soon": "Pronto habrá otro intento",
    "Working on it": "En curso",
    "Stopping": "Deteniendo",
    "Done": "Listo",
    DID_NOT_WORK: "No ha funcionado",
    "Cancelled": "Cancelado",
    "Waiting for its time": "En espera de su hora",
    "Done.": "Listo.",
    "It failed.": "Ha fallado.",
    "It was cancelled.": "Se ha cancelado.",
    "It never started.": "No llegó a empezar.",
    "Attempt {number} did not succeed.": "El intento {number} no ha tenido éxito.",
    "Something went wrong while it ran.": "Algo ha salido mal durante la ejecución.",
    "{number}%": "{number}\N{NO-BREAK SPACE}%",
    "less than 10 s": "menos de 10 s",
    "about {number} s": "unos {number} s",
    "about {number} min": "unos {number} min",
    "about {number} h": "unas {number} h",
    "{time} left": "quedan {time}",
    "{time} so far": "{time} hasta ahora",
    "It took {time}.": "Ha tardado {time}.",
    "Reference: {id}": "Referencia: {id}",
    "Cancel": "Cancelar",
    "Try again": "Intentar de nuevo",
    "Run it again": "Ejecutar de nuevo",
    "Show the result": "Ver el resultado",
    "Back": "Volver",
    "Progress": "Progreso",
    "Traceback, shown in debug mode only": "Traceback, visible solo en modo de depuración",
    "No connection. Trying again…": "Sin conexión. Intentando de nuevo…",
    NOT_SEEN: "Este trabajo ya no se puede ver.",
    "Not Found": "No encontrado",
    "Gone": "Ya no está disponible",
    "Too Many Requests": "Demasiadas solicitudes",
    "Service Unavailable": "No disponible por el momento",
    NO_SUCH_JOB: "Este trabajo no existe: nunca existió, ya no se conserva o no es suyo.",
    "The result is no longer kept.": "El resultado ya no se conserva.",
    UNAVAILABLE: "El trabajo no se puede"
    " leer por el momento. No se ha perdido nada; inténtelo de nuevo dentro de poco.",
}

INCLUDED: Mapping[str, Mapping[str, str]] = {"de": GERMAN, "es": SPANISH}


def say(text: str, **values: object) -> str:
    """The text in the language of the request, with these values in its braces."""
    found = _translated(text)
    if not values:
        return found
    try:
        return found.format(**values)
    except (LookupError, ValueError):  # a translation with other braces
        return text.format(**values)


def language() -> str:
    """The code of the language that the pages are in, such as "en" or "pt-BR"."""
    words = _words()
    if isinstance(words, str):
        return words
    locale = _locale()
    return "en" if locale is None else str(locale).replace("_", "-")


def _translated(text: str) -> str:
    if not has_app_context():
        return text
    words = _words()
    if isinstance(words, str):
        return INCLUDED.get(words, {}).get(text, text)
    if words is not None and text in words:
        return str(words[text])
    locale = _locale()
    if locale is None:
        return text
    found: str = sys.modules["flask_babel"].gettext(text)
    return found if found != text else INCLUDED.get(locale.language, {}).get(text, text)


def _words() -> str | Mapping[str, str] | None:
    offload: AppRegistry = current_app.extensions["offload"]
    return offload.current_state().config.words


def _locale() -> Any:
    """Flask-Babel's locale of the request; None if the app does not use it."""
    babel = sys.modules.get("flask_babel")
    if babel is None or "babel" not in current_app.extensions:
        return None
    return babel.get_locale()
