// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A token that misbehaves towards chosen recipients, in every way the escrow must survive.
contract PickyToken is ERC20 {
    enum Mood {
        Fine,
        Reverts,
        SaysFalse,
        BurnsGas,
        ReturnsMuch,
        SaysNothing,
        SaysTwo,
        Reenters
    }

    mapping(address => Mood) public moods;
    /// @dev What `Reenters` sends back to the caller of transfer.
    bytes public payload;
    bool public reentered;
    /// @dev Kept by the token from each transferFrom, in 1/10,000.
    uint256 public tollBps;

    constructor() ERC20("Picky", "PICK") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function setMood(address to, Mood mood) external {
        moods[to] = mood;
    }

    function setPayload(bytes calldata payload_) external {
        payload = payload_;
    }

    function setToll(uint256 bps) external {
        tollBps = bps;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        Mood mood = moods[to];
        if (mood == Mood.Reverts) revert("not to you");
        if (mood == Mood.SaysFalse) return false;
        if (mood == Mood.BurnsGas) {
            assembly {
                invalid() // takes all the gas it was given
            }
        }
        if (mood == Mood.ReturnsMuch) {
            assembly {
                revert(0, 20000)
            }
        }
        if (mood == Mood.SaysTwo) {
            assembly {
                mstore(0, 2)
                return(0, 32)
            }
        }
        if (mood == Mood.Reenters) {
            (reentered,) = msg.sender.call(payload);
        }
        _transfer(msg.sender, to, amount);
        if (mood == Mood.SaysNothing) {
            assembly {
                return(0, 0)
            }
        }
        return true;
    }

    function transferFrom(address from, address to, uint256 amount)
        public
        override
        returns (bool moved)
    {
        moved = super.transferFrom(from, to, amount);
        if (tollBps > 0) _burn(to, amount * tollBps / 10_000);
    }
}
