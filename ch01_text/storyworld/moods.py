"""How wishes, feelings and talk are said; the slots in braces are those of `phrases`."""

MOODS = {
    "wish_thing": (
        """
        {a} wanted {x} more than anything.
        {a} dreamed of having {x}.
        More than anything, {a} wished for {x}.
        "If only I had {x}!" said {A}.
        {a} longed for {x}.
        {a} had always wanted {x}.
        "How I would love to have {x}!" said {A}."""
    ),
    "wish_back": (
        """
        {a} wanted {x} back.
        "I must get {x} back," said {A}.
        {a} could think only of {x} and wanted it back.
        "I would give anything to have {x} again," said {A}."""
    ),
    "wish_meet": (
        """
        {a} wanted to see {b}.
        {a} longed to see {b} again.
        "I hope I meet {B} today," said {A}.
        {a} missed {b} very much.
        {a} had a secret and wanted to tell {b}.
        "If only {B} were here!" said {A}."""
    ),
    "wish_bring": (
        """
        {a} had promised to bring {x} to {p}.
        {a} had to take {x} to {p}.
        "I must bring {x} to {p} today," said {A}.
        {a} wanted to take {x} to {p} as a surprise.
        {a} meant to bring {x} to {p} before dark."""
    ),
    "happy": (
        """
        {a} was happy.
        {a} smiled from ear to ear.
        {a} was very glad.
        {a} beamed with joy.
        {a} laughed out loud.
        {a} could not stop smiling.
        {a} hummed a merry tune.
        What a joy it was for {A}!"""
    ),
    "sad": (
        """
        {a} was sad.
        {a} hung {his} head.
        {a} was close to tears.
        {a} began to cry.
        {a} sighed deeply.
        {a} felt miserable.
        {a} was bitterly disappointed.
        A tear rolled down {his} cheek, for {A} was sad."""
    ),
    "happy_because": (
        """
        {a} was happy {because}.
        {a} felt happy {because}.
        {a} danced with joy {because}.
        {a} cheered {because}.
        {a} was full of joy {because}."""
    ),
    "sad_because": (
        """
        {a} was sad {because}.
        {a} felt sad {because}.
        {a} wept {because}.
        {a} was unhappy {because}.
        {a} was in low spirits {because}."""
    ),
    "meet": (
        """
        {a} and {B} shook hands.
        {a} was pleased to meet {b}.
        {a} waved to {b}.
        "Hello, {B}!" called {A}.
        {a} and {B} talked for a while.
        {a} told {b} a funny story.
        "How nice to see you, {B}!" said {A}.
        {a} whispered something to {b}."""
    ),
    "refuse": (
        """
        {a} asked {B} for {x}, but {B} shook {b_his} head.
        {a} begged for {x}, but {B} would not part with it.
        "May I have {x}?" asked {A}. "No," said {B}.
        {a} wanted {x}, but {B} kept it.
        {a} asked if {he} could have {x}. "Not today," said {B}.
        "Please give me {x}," said {A}, but {B} only laughed."""
    ),
    "ask": (
        """
        "Has anyone seen {B}?" asked {A}.
        {a} wondered what {B} was doing.
        {a} was thinking of {B}.
        "Where can {B} be?" asked {A}.
        {a} sang a song about {B}.
        "I owe {B} a favour," said {A}."""
    ),
    "wonder": (
        """
        "I wonder who has {x}," said {A}.
        "Have you seen {x}?" asked {A}.
        {a} was thinking about {x}.
        {a} remembered {x}.
        "I like {x} best of all," said {A}.
        {a} had dreamed of {x} last night."""
    ),
    "admire": (
        """
        {a} looked at {x} for a long time.
        "How I like {x}!" said {A}.
        {a} admired {x}.
        {a} took a close look at {x}.
        {a} could not take {his} eyes off {x}.
        "Just look at {x}!" said {A}."""
    ),
    "mention": (
        """
        "Tomorrow I will go to {p}," said {A}.
        "It must be lovely {at} now," said {A}.
        {a} talked about {p}.
        {a} thought of the people {at}.
        "Yesterday I was {at}," said {A}.
        {a} could hear voices from {p}.
        "Is it far to {p}?" asked {A}."""
    ),
}
