"""What goes on around the story: how the day begins, what is to be seen, how the day ends.

Nothing here changes the state, and no sentence names a person, a place or a thing of the world.
"""

from typing import NamedTuple


class Weather(NamedTuple):
    """Sentences for one sort of day."""

    openings: tuple[str, ...]
    scenes: tuple[str, ...]
    closings: tuple[str, ...]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().split("\n"))


_SCENES = _lines("""
    A cat slept on a wall.
    Two dogs barked at each other.
    An old man swept his doorstep.
    Somewhere a rooster crowed.
    Children were singing in the lane.
    A cart rolled slowly by.
    Smoke curled up from the chimneys.
    The smell of soup drifted through the streets.
    Geese waddled across the road.
    A donkey brayed in the distance.
    Two grandmothers sat knitting in a doorway.
    A goat nibbled at a hedge.
    A squirrel ran up a tree.
    Somebody was whistling behind a fence.
    A fox peeped out of the bushes.
    A hen led her chicks across the yard.
    The postman pushed his bicycle past.
    A woodpecker hammered away at an oak.
    An owl hooted, though it was still day.
    Three boys were playing leapfrog.
    A spider mended its web.
    A sparrow hopped along the windowsill.
    The twins were quarrelling again.
    A wagon full of hay creaked by.
    Some sheep stood around and stared.
    A mouse scurried under a barrel.
    Neighbours leaned out and gossiped.
    A hedgehog rustled through the grass.
    A tortoise munched lettuce under a bench.
    Washing hung between two poplars.
    A peddler praised his wares at the top of his lungs.
    Somebody had painted a door bright green.
    The mayor yawned behind his newspapers.
    Pigeons strutted about, cooing.
    A baby giggled in its pram.
    Two old friends argued about chess.
    A kitten chased its own tail.
    A beetle climbed up a stalk and fell off again.
    Steam rose from a pot of potatoes.
    A piglet had escaped and squealed with delight.
    Someone was chopping wood, stroke after stroke.
    A girl counted to twenty with her eyes shut.
    An uncle snored in a hammock.
    The milkmaid balanced two heavy pails.
    Ants marched along in single file.
    A magpie stole a button and flew away.
    A caterpillar crawled over a cabbage.
    Somebody practised the same three notes again and again.
    A stork clattered on a chimney.
    Ponies trotted by with braided manes.
    Two cousins whispered and pointed upwards.
    Firewood was piled up against every house.
""")

_CLOSINGS = _lines("""
    One by one, the windows began to glow.
    Then it was time for supper.
    And that was the end of the day.
    Night came, and the village fell asleep.
    The stars came out, one after another.
    By evening everybody was tired.
    People still talk about that day.
    The moon rose over the roofs.
    Soon it was dark outside.
    So the day came to an end.
    That is all there is to tell.
    In the evening, everything was quiet.
    Shutters were closed and lights put out.
    Mothers called their children in.
    A nightingale sang until late.
    The last lamplighter went home.
    Bats fluttered around in the twilight.
    After such a day, sleep came quickly.
    Nothing else happened before bedtime.
    What came next is another story.
""")

_WEATHERS = (
    Weather(
        _lines("""
            It was a bright morning in the village.
            The sun rose over the rooftops.
            One sunny day, everybody was up early.
            It was the first warm day of spring.
            Golden light filled the streets.
            It was the hottest day of summer.
            Dew sparkled on every blade of grass.
            One fine day in May, cuckoos called."""),
        _lines("""
            Swallows darted through the warm air.
            Bees buzzed around the blossoms.
            A butterfly settled on a leaf.
            Crickets chirped in the tall grass.
            The sky was as blue as could be.
            A lizard basked in the sunshine.
            Strawberries ripened behind the houses.
            Dragonflies hovered and glittered.
            Somebody served cold lemonade."""),
        _lines("""
            The sun went down in a red sky.
            The air was still warm when the night came."""),
    ),
    Weather(
        _lines("""
            Rain fell softly on the village.
            It was a wet and gloomy morning.
            One rainy day, puddles filled the streets.
            Dark clouds hung over the rooftops.
            It had been raining since dawn.
            Thunder rumbled far away.
            A drizzly Tuesday had begun.
            April showers washed the cobblestones."""),
        _lines("""
            Raindrops drummed against the windows.
            A frog croaked in a puddle.
            Ducks splashed about and enjoyed the weather.
            Water gurgled in the gutters.
            A snail crept up a wet wall.
            Everybody wore boots that day.
            Mushrooms had sprouted overnight.
            A wet poodle shook itself.
            Worms wriggled out of the soil."""),
        _lines("""
            At last the rain stopped.
            A rainbow stood over the fields."""),
    ),
    Weather(
        _lines("""
            A strong wind blew through the village.
            It was a windy autumn day.
            Leaves danced through the streets that morning.
            The wind howled around every corner.
            It was a stormy day in October.
            Clouds raced across the sky.
            Chestnuts pattered down everywhere.
            The breeze smelled of salt and seaweed."""),
        _lines("""
            A shutter banged somewhere.
            Laundry flapped on the lines.
            Crows tumbled through the air.
            The weathercock spun round and round.
            A gust shook the branches.
            Somebody chased his cap down the lane.
            Dust and straw whirled up.
            A scarecrow lost its straw hair.
            A gate creaked on its hinges."""),
        _lines("""
            Late in the day, the wind died down.
            The storm had passed."""),
    ),
    Weather(
        _lines("""
            Snow covered the whole village.
            It was a cold winter morning.
            Frost glittered on every window.
            The first snow of the year had fallen.
            Icicles hung from the roofs.
            It was so cold that breath turned to steam.
            One frosty January day, noses were red.
            Everything had frozen overnight."""),
        _lines("""
            Snowflakes whirled through the air.
            A robin looked for crumbs.
            Some girls were building a snowman.
            Footprints crossed the white fields.
            A sleigh jingled past.
            Everybody stamped their feet to keep warm.
            Skates scraped over the ice.
            Mittens dried beside the stoves.
            A reindeer sniffed at the hay."""),
        _lines("""
            More snow fell in the night.
            Indoors, fires crackled and kettles sang."""),
    ),
    Weather(
        _lines("""
            A thick mist lay over the fields.
            It was a quiet, misty morning.
            Fog had crept in overnight.
            The village was wrapped in fog.
            Nobody could see very far that morning.
            Everything looked pale and strange in the mist.
            Dawn broke, damp and silent.
            November had brought its usual haze."""),
        _lines("""
            Drops hung from every twig.
            Somewhere a foghorn sounded.
            Cows mooed, but nobody could see them.
            The trees looked like ghosts.
            A heron stood as still as a statue.
            Voices sounded muffled in the fog.
            A raven cawed, unseen.
            Cobwebs shimmered with moisture.
            Shadows glided past without a sound."""),
        _lines("""
            Slowly the fog lifted.
            The mist turned silver in the moonlight."""),
    ),
    Weather(
        _lines("""
            It was the day of the summer fair.
            Flags and garlands hung in every street.
            The whole village was getting ready for the feast.
            Today the village was two hundred years old.
            It was the holiday that everybody loved best.
            Fiddlers played from early morning on.
            Carnival had begun at last.
            Visitors from far countries had arrived."""),
        _lines("""
            Lanes were decorated with coloured paper.
            A clown walked on stilts.
            Somebody was frying sausages.
            Pancakes were handed out for free.
            An acrobat turned cartwheels.
            A bearded singer cleared his throat.
            A fortune teller shuffled her cards.
            Masks and costumes were everywhere.
            A carousel turned to merry music."""),
        _lines("""
            Fireworks lit up the sky.
            There was dancing until midnight."""),
    ),
)

WEATHERS = tuple(
    # what is special comes more often
    Weather(openings, _SCENES + scenes * 2, _CLOSINGS + closings * 3)
    for openings, scenes, closings in _WEATHERS
)
