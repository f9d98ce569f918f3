"""The chat page in a real Chromium, through Playwright, with untrained models. Oracles: the API's
own answers, what the page sends and must show, and that hostile text stays text.
"""

import json
import math
import re
import shutil

import pytest
from serving_setup import Running, httpx, make_run, step_by_step, until

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install -e '.[test]')"
)
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium (apt install chromium)"),
]
expect = playwright.expect
HOSTILE = (
    "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>\nWhere"
    " is Tom?"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Running(make_run(tmp_path_factory.mktemp("run"))) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(server, browser):
    """The page, opened; an error in its console fails the test."""
    context = browser.new_context()
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else None
    )
    page.goto(server.url)
    expect(page.get_by_role("checkbox")).to_have_count(2)
    yield page
    context.close()
    assert errors == []


def send(page, text: str = "Tom went to the mill.\nWhere is Tom?", tokens: int = 12) -> None:
    if not page.locator("#max_tokens").is_visible():
        page.get_by_text("How words are chosen").click()
    page.get_by_label("Longest answer").fill(str(tokens))
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send").click()


def said(page, number: int = 0):
    """An answer, once it is finished."""
    answer = page.locator(".said").nth(number)
    expect(answer).not_to_have_class(re.compile("busy"))
    return answer


def reply(server, model: str = "sft", tokens: int = 12, **options):
    """What the API says to the same."""
    body = {
        "model": model,
        "temperature": 0,
        "max_tokens": tokens,
        "messages": [{"role": "user", "content": "Tom went to the mill.\nWhere is Tom?"}],
    } | options
    return httpx.post(f"{server.url}/v1/chat/completions", json=body).json()["choices"][0]


def shown_percentage(page) -> float:
    """The probability in the tooltip, which is rounded to a tenth of a per cent."""
    return float(re.search(r"had ([\d.]+) %", page.get_by_role("tooltip").text_content())[1])


def test_an_answer_streams_in_and_its_tokens_show_their_probabilities(server, page):
    """Oracle: the API's log-probabilities; by pointer and by keyboard."""
    send(page)
    wanted = reply(server, logprobs=True, top_logprobs=5)
    assert said(page).text_content() == wanted["message"]["content"].lstrip()
    # half a character is shown together with the next token, under whose probability it stands
    whole = [one for one in wanted["logprobs"]["content"] if "\ufffd" not in one["token"]]
    first, second = (100 * math.exp(one["logprob"]) for one in whole[:2])
    page.locator(".token").first.hover()
    expect(page.get_by_role("tooltip").locator("tr")).to_have_count(5)
    assert shown_percentage(page) == pytest.approx(first, abs=0.051)
    said(page).focus()
    page.keyboard.press("ArrowRight")
    assert shown_percentage(page) == pytest.approx(second, abs=0.051)
    page.keyboard.press("Escape")
    expect(page.get_by_role("tooltip")).to_be_hidden()


def test_stages_answer_side_by_side(server, page):
    page.get_by_role("button", name="Compare all").click()
    send(page)
    for number, model in enumerate(("base", "sft")):
        assert (
            said(page, number).text_content() == reply(server, model)["message"]["content"].lstrip()
        )
    boxes = [page.locator(".reply").nth(number).bounding_box() for number in (0, 1)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]


def test_stop_ends_the_answer_and_frees_its_row_and_regenerate_writes_another(server, page):
    foot = page.locator(".reply .hint")
    with step_by_step(server) as gate:
        gate.release(3)
        send(page, tokens=100)
        expect(page.locator(".token")).not_to_have_count(0)
        page.get_by_role("button", name="Stop").click()
        expect(foot).to_contain_text("stopped")
        until(lambda: not server.queue.handles)
        gate.release(2)
        until(lambda: not server.engine().busy)
    page.get_by_label("Temperature").fill("1.5")
    texts = set()
    for seed in "123":
        page.get_by_label("Seed").fill(seed)
        page.get_by_role("button", name="Regenerate").click()
        expect(foot).to_contain_text("cut at the longest length")
        texts.add(said(page).text_content())
    assert len(texts) == 3
    assert page.locator(".reply").count() == 1


def test_a_story_is_inserted_with_its_question_and_the_answer_is_judged(page):
    page.get_by_role("button", name="Insert a story").click()
    message = page.get_by_label("Your message")
    expect(message).not_to_have_value("")
    text = message.input_value()
    assert text.count("\n") == 1 and text.endswith("?")
    expect(message).to_be_focused()
    page.get_by_label("Your message").press("Enter")
    said(page)
    expect(page.get_by_text("The true answer:")).to_be_visible()
    expect(page.locator(".asked")).to_have_text(text)


def test_a_second_question_comes_with_the_first_exchange(server, page):
    """Oracle: the messages in the request that the page sends."""
    send(page, tokens=5)
    first = said(page).text_content()
    with page.expect_request("**/v1/chat/completions") as sent:
        send(page, "And where is the cat?", tokens=5)
    roles = [
        (message["role"], message["content"].lstrip())
        for message in sent.value.post_data_json["messages"]
    ]
    assert roles == [
        ("user", "Tom went to the mill.\nWhere is Tom?"),
        ("assistant", first),
        ("user", "And where is the cat?"),
    ]
    said(page, 1)
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".reply")).to_have_count(0)


def test_markup_stays_text(server, page):
    """What a user writes, and what a model does: here a model that can say nothing else."""
    send(page, HOSTILE)
    expect(page.locator(".asked")).to_have_text(HOSTILE)
    said(page)
    entry = {
        "token": HOSTILE,
        "logprob": -0.5,
        "bytes": list(HOSTILE.encode()),
        "top_logprobs": [{"token": HOSTILE, "logprob": -0.5, "bytes": []}],
    }
    event = {
        "choices": [
            {
                "index": 0,
                "delta": {"content": HOSTILE},
                "logprobs": {"content": [entry]},
                "finish_reason": "stop",
            }
        ]
    }
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            body=f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n", content_type="text/event-stream"
        ),
    )
    send(page)
    expect(said(page, 1)).to_have_text(HOSTILE)
    page.locator(".token").last.hover()
    expect(page.get_by_role("tooltip")).to_contain_text("<img")
    assert page.locator("main img, main script, #tip img").count() == 0
    assert page.title() == "Chat with your model"


@pytest.mark.parametrize(
    ("lines", "classes"),
    [
        (["Q: Where is Tom?", "A: the mill", "A: mill"], ["thought", "thought", "final"]),
        (["Q: Where is Tom?", "A: the mill"], ["thought", "final"]),
        (["A: Tom, Nora"], ["final"]),
        (["the mill"], [""]),
    ],
)
def test_the_last_answer_stands_out_from_what_led_to_it(page, lines, classes):
    text = "\n".join(lines)
    pieces = re.findall(r"\n|\w+|[^\w\n]+", text)
    entries = [
        {"token": piece, "logprob": -0.1, "bytes": list(piece.encode()), "top_logprobs": []}
        for piece in pieces
    ]
    event = {
        "choices": [
            {
                "index": 0,
                "delta": {"content": text},
                "logprobs": {"content": entries},
                "finish_reason": "stop",
            }
        ]
    }
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(
            body=f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n", content_type="text/event-stream"
        ),
    )
    send(page)
    found = (
        said(page)
        .locator(":scope > span")
        .evaluate_all("all => all.map(e => [e.textContent.trim(), e.className])")
    )
    assert found == [list(pair) for pair in zip(lines, classes, strict=True)]


def test_an_error_of_the_server_is_shown(server, browser):
    page = browser.new_page()
    page.goto(server.url)
    send(page, "word " * 400)
    expect(page.get_by_role("alert")).to_contain_text("including the answer; shorten it")
    expect(page.get_by_role("button", name="Send")).to_be_enabled()
    page.close()


def test_a_key_is_asked_for(tmp_path_factory, browser):
    with Running(make_run(tmp_path_factory.mktemp("run")), api_key="sesame") as server:
        page = browser.new_page()
        page.goto(server.url)
        page.get_by_label("This server needs its key").fill("sesame")
        page.get_by_role("button", name="Use it").click()
        expect(page.get_by_role("checkbox")).to_have_count(2)
        send(page)
        said(page)
        page.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 360)])
def test_it_fits_the_screen_and_can_be_read(server, browser, scheme, width):
    """No sideways scrolling; every control has a name; contrast of text and background at least
    4.5 (WCAG 2, 1.4.3).
    """
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 700})
    page = context.new_page()
    page.goto(server.url)
    expect(page.get_by_role("checkbox")).to_have_count(2)
    send(page)
    said(page)
    root = page.locator("html")
    assert root.evaluate("root => root.scrollWidth <= root.clientWidth")
    for control in page.locator("button, input, textarea").all():
        if control.is_visible():
            assert control.evaluate(
                "e => (e.labels?.length ? e.labels[0].textContent : e.textContent).trim()"
            )
    for selector in ("body", ".hint", ".asked", "button.main", ".thought, .reply h2"):
        colours = page.locator(selector).first.evaluate(
            "e => { let b = e; while (getComputedStyle(b).backgroundColor === 'rgba(0, 0, 0, 0)') b"
            " = b.parentElement;return [getComputedStyle(e).color,"
            " getComputedStyle(b).backgroundColor]; }"
        )
        assert contrast(*colours) >= 4.5, (selector, colours)
    context.close()


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours as rgb(r, g, b)."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
